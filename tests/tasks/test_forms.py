"""How answers are asked for, and what they are taken to say."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdistill.tasks.classification import ClassificationTask, Label
from mlxdistill.tasks.forms import AnswerForm, Written, rationale_in

FORMS = [AnswerForm(format, rationale) for format in ("json", "text") for rationale in (False, True)]
JSON, JSON_WHY, TEXT, TEXT_WHY = FORMS
TASK = ClassificationTask(
    "Is it toxic?", (Label("ok", "civil", "null"), Label("toxic", "rude", "[1]"), Label("other", "", "1.0"))
)


@pytest.mark.parametrize("form", FORMS)
def test_the_prompt_asks_for_the_form_where_it_is_to_stand(form: AnswerForm) -> None:
    assert TASK.teacher_prompt(form=form).tail == "\n\n" + form.request
    assert TASK.teacher_prompt("{answer} {text} {names}", form=form).head == form.request + " "
    assert TASK.teacher_prompt("Say {text}", form=form).content("x") == "Say x"
    assert TASK.teacher_prompt().tail == "\n\nAnswer with one label only."


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("label", TASK.labels)
def test_every_label_is_read_as_it_is_written(form: AnswerForm, label: Label) -> None:
    shortest = form.shortest(label.verbalizer)
    assert TASK.read(shortest, form) == label.name
    assert TASK.read("Is it [1]?\n</think>\n\n" + shortest + "\n", form) == label.name
    assert form.is_complete(shortest) == (form.format == "json")
    assert form.is_complete(shortest + "\n")


@pytest.mark.parametrize(
    ("form", "text", "written"),
    [
        (JSON_WHY, '{"rationale": "It is rude.", "label": "a"}', Written("a", "It is rude.")),
        (JSON_WHY, '{"rationale": 3, "label": "a"}', Written("a")),
        (JSON, '{"label": 3}', None),
        (JSON, '{"label": "a"', None),
        (JSON, '["a"]', None),
        (JSON, "[" * 100_000, None),
        (TEXT_WHY, "It is rude.\nVery.\n\nLabel: a", Written("a", "It is rude.\nVery.")),
        (TEXT_WHY, "Label: b\nNo.\n**label:** a", Written("a", "Label: b\nNo.")),
        (TEXT_WHY, "Label: a", Written("a")),
        (TEXT_WHY, "It is rude: a", None),
        (TEXT, "", None),
        (TEXT, "</think>", None),
        (TEXT, "<think>b</think>a", Written("a")),
    ],
)
def test_answers_are_taken_apart(form: AnswerForm, text: str, written: Written | None) -> None:
    assert form.take_apart(text) == written


@given(st.sampled_from(FORMS), st.text())
def test_no_text_makes_reading_fail(form: AnswerForm, text: str) -> None:
    assert TASK.read(text, form) in (*TASK.names, None)
    assert form.is_complete(text) in (True, False)


def test_the_schema_keeps_the_order_of_writing() -> None:
    schema = JSON_WHY.schema(["a", "b"], 50)
    assert list(schema["properties"]) == ["rationale", "label"]
    assert json.dumps(schema["properties"]) == (
        '{"rationale": {"type": "string", "maxLength": 50}, "label": {"enum": ["a", "b"]}}'
    )
    assert list(JSON.schema(["a"], 50)["properties"]) == ["label"]


@pytest.mark.parametrize(
    ("text", "rationale"),
    [
        ('{"rationale": " It is rude. ", "label": "bad"}', "It is rude."),
        ('```json\n{"label": "bad", "rationale": "Rude."}\n```', "Rude."),
        ('hm</think>\n{"rationale": "Rude.", "label": "bad"}', "Rude."),
        ("It is rude.\nVery.\nLabel: bad", "It is rude.\nVery."),
        ('{"rationale": "half \\ud83d", "label": "bad"}', "half ?"),
        ('{"rationale": "", "label": "bad"}', None),
        ('{"rationale": 3, "label": "bad"}', None),
        ('{"label": "bad"}', None),
        ("Label: bad", None),
        ("bad", None),
        ("", None),
    ],
)
def test_the_rationale_of_an_answer_is_found_in_every_form(text: str, rationale: str | None) -> None:
    assert rationale_in(text) == rationale
