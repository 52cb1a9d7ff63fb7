"""Which label an answer names, and how prompts read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdistill.tasks.classification import ClassificationTask, Label, check_template

TASK = ClassificationTask(
    "Is it toxic?",
    (Label("ok", "civil", "fine"), Label("toxic", "rude", "toxic"), Label("not sure", "unclear", "unsure")),
)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("toxic", "toxic"),
        ("Toxic.", "toxic"),
        (" **toxic** \n", "toxic"),
        ("fine", "ok"),
        ("ok", "ok"),
        ("not sure", "not sure"),
        ("Label: toxic", "toxic"),
        ("It is rude.\nAnswer: toxic", "toxic"),
        ('"toxic"', "toxic"),
        ('{"label": "toxic"}', "toxic"),
        ('```json\n{"is_bad": "toxic"}\n```', "toxic"),
        ('Here you are:\n```\n{"label": "fine"}\n```\nbye', "ok"),
        ("not toxic", None),
        ("ok or toxic", None),
        ("", None),
        ("I cannot answer that.", None),
        ('{"a": "ok", "b": "toxic"}', None),
        ('{"label": ["toxic"]}', None),
        ("{", None),
        ("[" * 100_000, None),
    ],
)
def test_an_answer_names_a_label_or_none(text: str, label: str | None) -> None:
    assert TASK.parse(text) == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ('{"is_bad": 0, "why": "ok"}', "ok"),
        ('{"is_bad": 1}', "toxic"),
        ('{"is_bad": 1.0}', "toxic"),
        ('{"is_bad": "1"}', "toxic"),
        ('{"is_bad": true}', None),
        ('{"is_bad": 2}', None),
        ('{"bad": 1}', None),
        ("1", "toxic"),
    ],
)
def test_logged_values_are_mapped(text: str, label: str | None) -> None:
    assert TASK.parse(text, key="is_bad", values={"0": "ok", "1": "toxic"}) == label


@given(st.text())
def test_no_text_makes_parsing_fail(text: str) -> None:
    assert TASK.parse(text) in (*TASK.names, None)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_the_row_stands_in_the_prompt_exactly_as_it_is(text: str) -> None:
    for prompt in (TASK.teacher_prompt(), TASK.student_prompt()):
        assert prompt.content(text) == prompt.head + text + prompt.tail


def test_the_teacher_reads_every_label_as_it_is_written_with_its_description() -> None:
    head = TASK.teacher_prompt().head
    assert "- fine: civil\n- toxic: rude\n- unsure: unclear" in head


def test_marks_in_what_the_user_wrote_are_not_filled_in() -> None:
    task = ClassificationTask("Mind {labels}!", TASK.labels)
    assert task.student_prompt("{instruction} {text}").head == "Mind {labels}! "


def test_many_labels_are_left_out_of_the_students_prompt() -> None:
    many = ClassificationTask("Which?", tuple(Label(f"label{n}", "", f"label{n}") for n in range(77)))
    assert "label5" not in many.student_prompt().head
    assert "label5" in many.teacher_prompt().head


@pytest.mark.parametrize(("template", "good"), [("{text}", True), ("no mark", False), ("{text}{text}", False)])
def test_a_prompt_file_holds_the_text_once(template: str, good: bool) -> None:
    assert (check_template(template) is None) == good


@pytest.mark.parametrize(
    ("word", "meant"), [("lables", "labels"), ("Labels", "labels"), ("instructions", "instruction"), ("name", "names")]
)
def test_a_misspelt_place_is_named(word: str, meant: str) -> None:
    assert check_template(f"{{text}} {{{word}}}") == f"{{{word}}} means nothing in a prompt; did you mean {{{meant}}}?"


def test_other_braces_stay_as_they_are() -> None:
    assert check_template('{text} {labels} {answer} as {"label": {x}} or {is_bad}') is None
