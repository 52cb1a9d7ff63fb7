"""A teacher that writes, in its own process: answers kept, stops honoured, fingerprints that mean something."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlxdistill.config.models import TeacherConfig
from mlxdistill.errors import Interrupted, ModelError, UsageError
from mlxdistill.tasks.classification import ClassificationTask, Label
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row
from mlxdistill.teacher.generating import GeneratingLabeller
from mlxdistill.teacher.labeller import open_labeller

TASK = ClassificationTask("Which is it?", (Label("fine", "civil", "ok"), Label("bad", "rude", "toxic a")))
ROWS = [Row(f"row-{number}", "card lost " * (number % 7) + "ok") for number in range(40)]
NONE: frozenset[tuple[str, int]] = frozenset()
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def opened(path: Path, progress: Any, template: str | None = None, **settings: Any) -> GeneratingLabeller:
    small = {"n_ctx": 512, "n_batch": 128, "n_seq": 8, "threads": 1, "max_tokens": 40}
    config = TeacherConfig(model=str(path), answer="generate", **{**small, **settings})
    made = open_labeller(config, TASK, progress, template)
    assert isinstance(made, GeneratingLabeller)
    return made


def asked(teacher: GeneratingLabeller, progress: Any, done: frozenset[tuple[str, int]] = NONE) -> list[Answer]:
    return [answer for group in teacher.label(ROWS, done, progress) for answer in group]


def by_key(answers: list[Answer]) -> dict[tuple[str, int], tuple[object, ...]]:
    found = {(answer.row_id, answer.sample): (answer.label, answer.outcome, answer.text) for answer in answers}
    assert len(found) == len(answers)
    return found


def test_every_row_is_answered_as_often_as_asked_and_a_resume_adds_what_is_missing(
    tiny_gguf: Path, progress: Any
) -> None:
    with opened(tiny_gguf, progress, temperature=0.8, samples=2) as teacher:
        assert teacher.samples == (0, 1)
        assert teacher.settings is None
        whole = by_key(asked(teacher, progress))
        assert set(whole) == {(row.id, sample) for row in ROWS for sample in (0, 1)}
        assert progress.advances[-1] == (40, 40)
        assert teacher.stats.rows == 80
        assert 0 < teacher.stats.engine_seconds < teacher.stats.seconds
        assert teacher.peak_memory_bytes > 2**20
        expected = {"n_ctx": 512, "n_batch": 128, "n_seq": 8, "threads": 1, "kv": "unified"}
        assert teacher.settings == expected
        done = frozenset(list(whole)[:33])
        rest = by_key(asked(teacher, progress, done))
    assert rest == {key: value for key, value in whole.items() if key not in done}
    for label, outcome, text in whole.values():
        assert outcome == "answered"
        assert json.loads(str(text)) == {"label": TASK.verbalizer(str(label))}


def test_answers_have_texts_and_seconds_and_no_probabilities(tiny_gguf: Path, progress: Any) -> None:
    with opened(tiny_gguf, progress, rationale=True, threads=None, max_tokens=100) as teacher:
        answers = asked(teacher, progress)
    assert all(answer.probabilities is None and answer.seconds > 0 for answer in answers)
    assert all(list(json.loads(answer.text or "")) == ["rationale", "label"] for answer in answers if answer.label)


def test_ctrl_c_keeps_what_was_answered(tiny_gguf: Path, progress: Any) -> None:
    kept: list[Answer] = []
    with opened(tiny_gguf, progress, temperature=0.8, samples=4) as teacher, pytest.raises(Interrupted):
        for group in teacher.label(ROWS, NONE, progress):
            kept += group
            if len(kept) == len(group):
                os.kill(os.getpid(), signal.SIGINT)
    assert 0 < len(kept) < 160
    with opened(tiny_gguf, progress, temperature=0.8, samples=4) as teacher:
        rest = asked(teacher, progress, frozenset(by_key(kept)))
    assert len(by_key(kept + rest)) == 160


def test_nothing_is_loaded_when_everything_is_answered(tiny_gguf: Path, progress: Any) -> None:
    with opened(tiny_gguf, progress) as teacher:
        assert not asked(teacher, progress, frozenset((row.id, 0) for row in ROWS))
    assert not progress.notes


def test_fingerprints_change_with_what_they_are_for(
    tiny_gguf: Path, make_gguf: Callable[..., Path], progress: Any
) -> None:
    base = opened(tiny_gguf, progress, temperature=0.5)
    for other in (
        opened(make_gguf(seed=1), progress, temperature=0.5),
        opened(tiny_gguf, progress, temperature=0.6),
        opened(tiny_gguf, progress, temperature=0.5, seed=1),
        opened(tiny_gguf, progress, temperature=0.5, max_tokens=41),
        opened(tiny_gguf, progress, temperature=0.5, n_ctx=400),
        opened(tiny_gguf, progress, temperature=0.5, n_batch=64),
        opened(tiny_gguf, progress, temperature=0.5, n_seq=3),
    ):
        assert other.fingerprint != base.fingerprint
        assert other.prompt_fingerprint == base.prompt_fingerprint
    for other in (
        opened(tiny_gguf, progress, temperature=0.5, format="text"),
        opened(tiny_gguf, progress, temperature=0.5, rationale=True),
    ):
        assert other.fingerprint != base.fingerprint
        assert other.prompt_fingerprint != base.prompt_fingerprint
    for same in (
        opened(tiny_gguf, progress, temperature=0.5, samples=3),
        opened(tiny_gguf, progress, temperature=0.5, threads=None),
        opened(tiny_gguf, progress, temperature=0.5, thinking=True),  # this model does not think
    ):
        assert (same.fingerprint, same.prompt_fingerprint) == (base.fingerprint, base.prompt_fingerprint)
    prompted = opened(tiny_gguf, progress, "{names}? {text}\n{answer}", temperature=0.5)
    assert prompted.fingerprint == base.fingerprint
    assert prompted.prompt_fingerprint != base.prompt_fingerprint


def test_the_prompt_says_how_to_answer(tiny_gguf: Path, progress: Any) -> None:
    for settings, wanted in (
        ({}, '{"label": "<one of the labels>"}'),
        ({"rationale": True}, '{"rationale": "<why>", "label": "<one of the labels>"}'),
        ({"format": "text"}, "Answer with one label only."),
        ({"format": "text", "rationale": True}, "\nLabel: <one of the labels>"),
    ):
        request: Any = opened(tiny_gguf, progress, **settings)._request
        assert request.prompt.tail.endswith(wanted)
    request = opened(tiny_gguf, progress, "{text}: {names}?")._request
    assert request.prompt.tail == ": ok, toxic a?"


def test_a_thought_is_closed_unless_asked_for_and_opened_where_it_is(
    make_gguf: Callable[..., Path], progress: Any
) -> None:
    path = make_gguf(chat_template=THINKING)
    closed: Any = opened(path, progress)._request
    assert closed.prompt.after.endswith("<think>\n\n</think>\n\n")
    assert not closed.writing.thinking
    thinking = opened(path, progress, thinking=True, max_tokens=30)
    request: Any = thinking._request
    assert request.prompt.after.endswith("assistant\n<think>\n")
    assert request.writing.thinking
    assert thinking.fingerprint != opened(path, progress, max_tokens=30).fingerprint
    with thinking:
        answers = asked(thinking, progress)
    assert {answer.outcome for answer in answers} == {"unparsable"}  # a random model never ends its thought
    assert len(answers) == len(ROWS)


def test_what_cannot_be_asked_is_said_before_anything_loads(
    make_gguf: Callable[..., Path], tiny_gguf: Path, progress: Any
) -> None:
    with pytest.raises(ModelError, match="has no chat template"):
        opened(make_gguf(chat_template=None), progress)
    many = ClassificationTask("Which?", tuple(Label(f"{n} " * 9, "", f"{n} " * 9) for n in range(6000)))
    config = TeacherConfig(model=str(tiny_gguf), answer="generate")
    with pytest.raises(UsageError, match="the grammar of the answer has"):
        open_labeller(config, many, progress)


def test_too_few_tokens_for_any_answer_are_noted(tiny_gguf: Path, progress: Any) -> None:
    with opened(tiny_gguf, progress, max_tokens=5) as teacher:
        answers = asked(teacher, progress)
    assert {answer.outcome for answer in answers} == {"unparsable"}
    assert any("teacher.max_tokens" in note for note in progress.notes)
