"""One answer: where the thought ends, when it is complete, what the grammar then allows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlxdistill.tasks.classification import ClassificationTask, Label
from mlxdistill.tasks.forms import AnswerForm
from mlxdistill.teacher.drafts import Draft, Writer, Writing
from mlxdistill.teacher.engine import Model
from mlxdistill.teacher.grammar import schema_grammar

TASK = ClassificationTask("Which?", (Label("fine", "", "ok"), Label("bad", "", "toxic a")))


def writing(form: AnswerForm, **settings: Any) -> Writing:
    grammar = None
    if form.format == "json":
        grammar = schema_grammar(form.schema(TASK.verbalizers, 40), after_thought=settings.get("thinking", False))
    return Writing(form, grammar, **settings)


def written(model: Model, how: Writing, wished: str, end: bool = True) -> tuple[Draft, str | None]:
    """What becomes of an answer where the model wishes to write this text, byte by byte, and then to end its turn."""
    bytes_of = {model.piece(token): token for token in range(model.vocabulary_size) if not model.is_control(token)}
    control = {model.piece(token).decode(): token for token in range(model.vocabulary_size) if model.is_control(token)}
    with Writer(model, TASK, how) as writer:
        draft = writer.begin("row", 0, 0)
        for part in [wished] if wished in control else [bytes([byte]) for byte in wished.encode()]:
            wish(writer, draft, bytes_of[part] if isinstance(part, bytes) else control[part])
            if draft.ended:
                break
        if end and not draft.ended:
            assert model.end_of_turn is not None
            wish(writer, draft, model.end_of_turn)
            assert draft.ended or draft.matcher is not None
        label = writer.label(draft)
        draft.close()
        return draft, label


def wish(writer: Writer, draft: Draft, token: int) -> None:
    logits = np.zeros(writer._model.vocabulary_size, np.float32)
    logits[token] = 10.0
    writer.write(draft, logits)


@pytest.mark.parametrize(
    ("wished", "text", "label"),
    [
        ("ok\nand more", "ok", "fine"),
        ("\n\n ok.\nmore", "ok.", "fine"),
        ("toxic a", "toxic a", "bad"),
        ("It is ok", "It is ok", None),
        ("", "", None),
        ("\n", "", None),
    ],
)
def test_text_ends_with_the_first_line_that_says_something(
    tiny_model: Model, wished: str, text: str, label: str | None
) -> None:
    draft, found = written(tiny_model, writing(AnswerForm("text")), wished)
    assert (draft.whole_text, found, draft.ended) == (text, label, True)


@pytest.mark.parametrize(
    ("wished", "label"),
    [
        ("It is rude.\nLabel: toxic a\nmore", "bad"),
        ("ok\nI mean it.\n**Label:** ok\n\nmore", "fine"),
        ("Why? No label: none.\nlabel: ok", "fine"),
        ("It is ok\n", None),
        ("Label:\nok", None),
    ],
)
def test_a_rationale_in_text_ends_with_the_line_of_the_label(tiny_model: Model, wished: str, label: str | None) -> None:
    draft, found = written(tiny_model, writing(AnswerForm("text", rationale=True)), wished)
    assert found == label
    assert "more" not in draft.whole_text


def test_json_ends_as_soon_as_the_object_closes(tiny_model: Model) -> None:
    draft, label = written(tiny_model, writing(AnswerForm()), '{"label": "ok"} and more')
    assert (draft.whole_text, label, draft.ended) == ('{"label": "ok"}', "fine", True)
    form = AnswerForm(rationale=True)
    draft, label = written(tiny_model, writing(form), '{"rationale": "a } and {}", "label": "toxic a"}more')
    assert (draft.whole_text, label) == ('{"rationale": "a } and {}", "label": "toxic a"}', "bad")
    assert form.take_apart(draft.whole_text).rationale == "a } and {}"  # type: ignore[union-attr]


def test_json_leaves_the_model_no_other_way(tiny_model: Model) -> None:
    draft, _ = written(tiny_model, writing(AnswerForm()), "The label is ok, I think", end=False)
    assert draft.whole_text.startswith("{")
    assert '"label"'.startswith(draft.whole_text[1:8].strip()[:8])


def test_max_tokens_ends_an_answer(tiny_model: Model) -> None:
    draft, label = written(tiny_model, writing(AnswerForm(), max_tokens=5), '{"label": "ok"}')
    assert (draft.whole_text, draft.count, draft.ended, label) == ('{"lab', 5, True, None)


def test_the_grammar_begins_after_the_thought(tiny_model: Model) -> None:
    how = writing(AnswerForm(), thinking=True)
    draft, label = written(tiny_model, how, 'Is {"label": "toxic a"} it?\nNo.</think>\n\n{"label": "ok"}more')
    assert draft.whole_text == 'Is {"label": "toxic a"} it?\nNo.</think>\n\n{"label": "ok"}'
    assert (draft.answer.strip(), label) == ('{"label": "ok"}', "fine")
    assert TASK.read(draft.whole_text, how.form) == "fine"


def test_a_thought_that_never_ends_names_no_label(tiny_model: Model) -> None:
    draft, label = written(tiny_model, writing(AnswerForm(), thinking=True, max_tokens=20), '{"label": "ok"} ' * 2)
    assert (draft.count, label) == (20, None)
    draft, label = written(tiny_model, writing(AnswerForm("text"), thinking=True), "ok\nok")
    assert (draft.whole_text, label) == ("ok\nok", None)


def test_text_after_a_thought(tiny_model: Model) -> None:
    draft, label = written(tiny_model, writing(AnswerForm("text"), thinking=True), "toxic a?</think>\n\nok\nmore")
    assert (draft.answer.strip(), label) == ("ok", "fine")


def test_a_control_token_ends_the_answer_but_not_the_mark_of_a_thought(
    make_gguf: Callable[..., Path], tiny_model: Model
) -> None:
    draft, _ = written(tiny_model, writing(AnswerForm("text")), "<|im_start|>")
    assert (draft.ended, draft.whole_text) == (True, "")


def test_a_second_attempt_draws_anew_though_the_first_took_the_likeliest(tiny_model: Model) -> None:
    logits = np.random.default_rng(0).normal(0, 1, tiny_model.vocabulary_size).astype(np.float32)
    with Writer(tiny_model, TASK, writing(AnswerForm("text"))) as writer:
        first, again, second = (writer.begin("row", 0, attempt) for attempt in (0, 0, 1))
        for draft in (first, again, second):
            for _ in range(6):
                writer.write(draft, logits)
    assert first.text == again.text
    assert first.text != second.text
