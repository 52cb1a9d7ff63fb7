"""Asking a model for quotes, and finding them in the text."""

from __future__ import annotations

import json

import pytest
from jsonschema import validate

from mlxdistill.tasks.quoting import QUOTED_KINDS, Quote, QuoteForm, QuoteTask, places_of

FORM = QuoteForm(QUOTED_KINDS)


def test_the_form_names_every_kind_and_describes_its_own_schema() -> None:
    assert all(f"- {kind}: " in FORM.head for kind in QUOTED_KINDS)
    for answer in (FORM.shortest(""), '{"found": [{"kind": "name", "text": "Jane"}]}'):
        validate(json.loads(answer), FORM.schema)
        assert FORM.is_complete(answer)


def test_quotes_are_read_also_where_the_answer_is_cut_off() -> None:
    answer = (
        '{"found": [{"kind": "name", "text": "Jane \\"J\\" Roe"}, {"kind": "email", "text": "j@corp.com"}, {"kind": "na'
    )
    assert list(FORM.read(answer)) == [Quote("name", 'Jane "J" Roe'), Quote("email", "j@corp.com")]
    assert not FORM.is_complete(answer)
    assert QuoteTask().read(answer, FORM) is None
    assert QuoteTask().read(FORM.shortest(""), FORM) == ""


def test_kinds_that_were_not_asked_for_and_empty_quotes_are_ignored() -> None:
    assert (
        list(QuoteForm(("name",)).read('[{"kind": "email", "text": "j@corp.com"}, {"kind": "name", "text": " "}]'))
        == []
    )


def test_a_quote_is_found_wherever_it_stands_as_a_word_and_nowhere_else() -> None:
    text = "Ann and Anna; Ann."
    assert list(places_of(text, [Quote("name", "Ann"), Quote("name", "Bob")])) == [(0, 3, "name"), (14, 17, "name")]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("我叫王小明，住在北京。", "王小明"),
        ("田中太郎です。", "田中太郎"),
        ("ผมชื่อสมชายครับ", "สมชาย"),
        ("김민수는 어제 왔다.", "김민수"),
        ("I am Jane\n  Roe.", "Jane Roe"),
    ],
)
def test_a_quote_is_found_in_scripts_without_spaces_and_across_lines(text: str, name: str) -> None:
    ((start, end, _),) = places_of(text, [Quote("name", name)])
    assert text[start:end].split() == name.split()


def test_a_quote_is_not_found_within_a_word_of_a_script_with_spaces() -> None:
    for text in ("Annas card", "HAnna", "Аннами", "Anna_1"):
        assert list(places_of(text, [Quote("name", "Anna"), Quote("name", "Анна")])) == []
