"""A text is found in what was written, and nothing of a row is taken for part of the prompt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdistill.tasks.classification import ClassificationTask, Label
from mlxdistill.tasks.drafting import DraftForm, check_draft_template, draft_prompt

TASK = ClassificationTask("Is it toxic?", (Label("ok", "civil", "fine"), Label("bad", "rude {examples}", "toxic")))
FORMS = [DraftForm("json"), DraftForm("text")]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.format)
@given(text=st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: "</text>" not in text))
def test_a_text_in_its_form_is_found_again(form: DraftForm, text: str) -> None:
    written = form.shortest(text)
    assert form.is_complete(written)
    assert form.take_apart(written) == text.strip()
    assert not form.is_complete(written[:-1])


def test_what_is_no_text_is_none() -> None:
    json_form, text_form = FORMS
    for written in ("", "{}", '{"text": 3}', "[1]", '{"text": "cut', "x" * 9):
        assert json_form.take_apart(written) is None
    assert json_form.take_apart('{"text": "half \\ud83d"}') == "half ?"
    assert text_form.take_apart("Here: <text>\none\ntwo </text> bye") == "one\ntwo"
    assert text_form.take_apart("<text>no end") is None


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.format)
def test_what_all_drafts_share_stands_around_what_is_said_of_a_class(form: DraftForm) -> None:
    prompt = draft_prompt(TASK, form)
    middle = prompt.fill("bad", ["you {label} fool", "go away"])
    assert prompt.head.startswith("Is it toxic?\n\nLabels:\n- fine: civil\n- toxic: rude {examples}\n")
    assert prompt.tail.endswith(form.request)
    assert "toxic (rude {examples})" in middle
    assert form.shortest("you {label} fool") + "\n" + form.shortest("go away") in middle
    assert "{answer}" not in prompt.head + middle + prompt.tail
    assert "(there are none yet)" in prompt.fill("ok", [])


def test_a_prompt_of_ones_own() -> None:
    prompt = draft_prompt(TASK, FORMS[0], "{answer} Like these: {examples}. {labels}")
    assert prompt.head == FORMS[0].request + " Like these: "
    assert prompt.fill("ok", ["a"]) == '{"text": "a"}'
    assert prompt.tail == ". - fine: civil\n- toxic: rude {examples}"


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{examples}", None),
        ("{examples} {label} {other}", None),
        ("none", "holds {examples} exactly once, this one 0 times"),
        ("{examples}{examples}", "this one 2 times"),
        ("{examples} {lable}", "did you mean {label}?"),
    ],
)
def test_what_is_wrong_with_a_prompt_is_said(template: str, fault: str | None) -> None:
    found = check_draft_template(template)
    assert found is None if fault is None else fault in (found or "")
