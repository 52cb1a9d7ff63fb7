"""Rules of the user's: what the text, or the answer, must be like."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdistill.config.rules import RuleConfig
from mlxdistill.errors import DataError
from mlxdistill.filters import rules
from mlxdistill.filters.candidate import Candidate
from mlxdistill.filters.rules import Rule
from mlxdistill.store import Decision
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Z]"},
        "age": {"type": "integer", "minimum": 0},
        "likes": {"$ref": "#/$defs/likes"},
    },
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {"likes": {"type": "array", "items": {"type": "string"}}},
}


def decide(
    text: str, *, label: str = "ok", answer: str | None = None, by_person: bool = False, **rule: Any
) -> Decision:
    candidate = Candidate(Row("a", text), Answer("a", label, text=answer), by_person)
    (decision,) = Rule(RuleConfig(**rule))([candidate])
    return decision


@pytest.mark.parametrize(
    ("rule", "text", "fault"),
    [
        ({"min_characters": 3}, " ab ", "fewer than 3 characters"),
        ({"max_characters": 3}, "abcd", "more than 3 characters"),
        ({"min_words": 2}, "hello", "fewer than 2 words"),
        ({"max_words": 2}, "a b\nc", "more than 2 words"),
        ({"must_match": r"\d"}, "no figure", "does not match must_match"),
        ({"must_not_match": r"(?i)HTTPS?://"}, "see http://x", "matches must_not_match"),
        ({"required_fields": "name"}, '{"name": ""}', "the field name is empty"),
        ({"required_fields": ["name", "age"]}, '{"name": "x"}', "the field age is missing"),
        ({"required_fields": "name"}, "[1]", "it is not a JSON object"),
        ({"required_fields": "name"}, "{", "it is not JSON"),
        ({"json_schema": PERSON}, "{", "it is not JSON"),
        ({"json_schema": PERSON}, '{"age": 3}', "breaks the JSON schema at required"),
        ({"json_schema": PERSON}, '{"name": "secret"}', "breaks the JSON schema at properties/name/pattern"),
        ({"json_schema": PERSON}, '{"name": "A", "secret": 1}', "breaks the JSON schema at additionalProperties"),
        (
            {"json_schema": PERSON},
            '{"name": "A", "likes": [3]}',
            "breaks the JSON schema at properties/likes/items/type",
        ),
        ({"json_schema": PERSON}, "[" * 100_000, "it is not JSON"),
    ],
)
def test_what_does_not_meet_a_rule_is_dropped_with_the_condition_as_reason(
    rule: dict[str, Any], text: str, fault: str
) -> None:
    decision = decide(text, **rule)
    assert not decision.kept
    assert "secret" not in decision.reason
    assert decision.reason.replace("$ref/", "") == fault


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"min_characters": 3, "max_characters": 3}, "abc"),
        ({"min_words": 2, "max_words": 2}, "a b"),
        ({"must_match": r"^\p{Lu}"}, "Äpfel"),
        ({"must_not_match": "z"}, "abc"),
        ({"required_fields": "name"}, '{"name": 0}'),
        ({"required_fields": "name"}, 'Here it is:\n```json\n{"name": "x"}\n```'),
        ({"json_schema": PERSON}, '{"name": "Ada", "age": 36, "likes": ["sums"]}'),
        ({"json_schema": {}}, "3"),
    ],
)
def test_what_meets_a_rule_is_kept(rule: dict[str, Any], text: str) -> None:
    assert decide(text, **rule).kept


def test_lengths_are_the_score() -> None:
    assert decide("a b c", max_words=2).score == 3
    assert decide("a b c", max_words=9, min_characters=1).score == 5


def test_a_rule_for_some_labels_lets_the_others_through() -> None:
    rule = {"must_match": "never there", "only": ["toxic"]}
    assert decide("text", label="ok", **rule).reason == "the rule is for other labels"
    assert not decide("text", label="toxic", **rule).kept


def test_a_rule_about_the_answer_reads_what_the_teacher_wrote() -> None:
    rule = {"about": "answer", "required_fields": "label"}
    assert decide("no JSON", answer='```json\n{"label": 1}\n```', **rule).kept
    assert not decide('{"label": 1}', answer="ok", **rule).kept
    assert decide("no JSON", answer=None, **rule).reason == "the teacher wrote no text"
    assert decide("no JSON", answer="ok", by_person=True, **rule).kept


def test_languages_that_cannot_be_told_are_kept_unless_they_are_not() -> None:
    german = "Meine Karte wurde gestern Abend in der Stadt gestohlen, und ich brauche sofort Hilfe von Ihnen."
    assert decide(german, languages=["en", "fr"]).reason == "its language is de"
    assert decide(german, languages="de").kept
    assert decide("ok", languages="de").kept
    assert decide("ok", languages="de", unsure="drop").reason == "its language cannot be told"


@pytest.mark.parametrize("rule", [{"must_match": "(a|aa)+$"}, {"json_schema": {"pattern": "(a|aa)+$"}}])
def test_an_expression_that_never_ends_costs_the_row_and_on_many_rows_is_an_error(
    monkeypatch: pytest.MonkeyPatch, rule: dict[str, Any]
) -> None:
    monkeypatch.setattr(rules, "MATCH_SECONDS", 0.1)
    slow, fine = "a" * 60 + "b", "aaa"

    def decided(texts: list[str]) -> list[tuple[bool, str]]:
        written = [json.dumps(text) if "json_schema" in rule else text for text in texts]
        candidates = [Candidate(Row(f"r{place}", text), Answer("a", "ok")) for place, text in enumerate(written)]
        decisions = Rule(RuleConfig(name="slow", **rule))(candidates)
        return [(decision.kept, decision.reason) for decision in decisions]

    fault = "a regular expression of `rule: slow` took longer than 0.1 s"
    met = (True, "meets the rule")
    if "json_schema" not in rule:
        assert decided([fine, slow, fine, slow, slow]) == [met, (False, fault), met, (False, fault), (False, fault)]
    with pytest.raises(DataError) as caught:
        decided([slow] * 5)
    assert (caught.value.message, caught.value.where) == (f"{fault} on 4 rows", "row r3")
    assert "filter.rules" in (caught.value.hint or "")


@given(st.text(), st.text())
def test_hostile_texts_get_a_decision(text: str, answer: str) -> None:
    rule = {"required_fields": "a", "json_schema": PERSON, "must_match": "x", "min_words": 1}
    for about in ("text", "answer"):
        assert decide(text, answer=answer, about=about, **rule).filter.startswith("rule: ")
