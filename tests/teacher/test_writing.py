"""A teacher that writes texts: each draft on its own, the same for the same seed, whole or none."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import pytest

from mlxdistill.config.models import TeacherConfig
from mlxdistill.config.synth import SynthConfig
from mlxdistill.errors import ModelError
from mlxdistill.tasks.classification import ClassificationTask, Label
from mlxdistill.tasks.drafting import DraftForm, draft_prompt
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row
from mlxdistill.teacher.writing import open_writer

TASK = ClassificationTask("Which is it?", (Label("fine", "civil", "ok"), Label("bad", "rude", "toxic a")))
TEMPLATE = "{label} {examples} {answer}"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def drafts(path: Path, progress: Any, form: Literal["json", "text"] = "json", **settings: Any) -> list[Answer]:
    prompt = draft_prompt(TASK, DraftForm(form), TEMPLATE)
    rows = [Row(f"bad/{number}", prompt.fill("bad", ["card lost"] * (number % 4))) for number in range(12)]
    config = TeacherConfig(model=str(path), n_ctx=512, n_batch=128, n_seq=8, threads=1, answer="score")
    with open_writer(config, SynthConfig(format=form, **settings), prompt, 150, progress) as writer:
        found = [answer for group in writer.label(rows, frozenset(), progress) for answer in group]
    assert Counter(answer.row_id for answer in found) == {row.id: 1 for row in rows}
    return sorted(found, key=lambda answer: answer.row_id)


def test_a_teacher_that_scores_can_write_too(tiny_gguf: Path, progress: Any) -> None:
    found = drafts(tiny_gguf, progress, temperature=1.0, seed=3)
    form = DraftForm("json")
    whole = [answer for answer in found if answer.outcome != "unparsable"]
    assert 0 < len(whole) < len(found)  # under the grammar a model of random weights ends a text now and then
    assert len({answer.text for answer in found}) > 6
    for answer in found:
        assert (form.take_apart(answer.text or "") is None) == (answer.outcome == "unparsable")
    again = drafts(tiny_gguf, progress, temperature=1.0, seed=3)
    assert [answer.text for answer in again] == [answer.text for answer in found]
    other = drafts(tiny_gguf, progress, temperature=1.0, seed=4)
    assert [answer.text for answer in other] != [answer.text for answer in found]


def test_plain_text_without_marks_is_no_draft(tiny_gguf: Path, progress: Any) -> None:
    assert {answer.outcome for answer in drafts(tiny_gguf, progress, "text")} == {"unparsable"}


def test_a_model_without_a_chat_template_cannot_be_asked(stories_gguf: Path, progress: Any) -> None:
    with pytest.raises(ModelError, match="no chat template"):
        drafts(stories_gguf, progress)
