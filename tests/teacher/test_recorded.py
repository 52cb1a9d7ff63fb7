"""Logged answers as a teacher: matched by id and text, never guessed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlxdistill.config.models import TeacherConfig
from mlxdistill.errors import DataError
from mlxdistill.tasks.classification import ClassificationTask, Label
from mlxdistill.tasks.rows import Row, content_id
from mlxdistill.teacher.labeller import open_labeller
from mlxdistill.teacher.recorded import RecordedLabeller

TASK = ClassificationTask("Toxic?", (Label("ok", "civil", "ok"), Label("toxic", "rude", "toxic")))
NONE: frozenset[tuple[str, int]] = frozenset()


def write_log(path: Path, *entries: tuple[str, str, str]) -> Path:
    """Entries: id, text, answer."""
    lines = [
        json.dumps(
            {
                "key": row_id,
                "messages": [{"role": "user", "content": text}],
                "response": {"choices": [{"message": {"role": "assistant", "content": answer}}]},
            }
        )
        for row_id, text, answer in entries
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def opened(
    progress: Any, *logs: Path, id_column: str | None = "key", strict: bool = False, **settings: Any
) -> RecordedLabeller:
    config = TeacherConfig(log=tuple(str(log) for log in logs), **settings)
    made = open_labeller(config, TASK, progress, id_column=id_column, strict=strict)
    assert isinstance(made, RecordedLabeller)
    return made


def outcomes(
    teacher: RecordedLabeller, rows: list[Row], progress: Any, done: frozenset[tuple[str, int]] = NONE
) -> dict[str, Any]:
    with teacher:
        found = [answer for wave in teacher.label(rows, done, progress) for answer in wave]
    assert all(answer.probabilities is None for answer in found)
    return {answer.row_id: (answer.label, answer.outcome, answer.text) for answer in found}


def test_answered_unparsable_and_missing(tmp_path: Path, progress: Any) -> None:
    log = write_log(
        tmp_path / "log.jsonl", ("1", "hello", "ok"), ("2", "you fool", "not toxic"), ("3", "text", "Toxic.")
    )
    teacher = opened(progress, log)
    rows = [Row("1", "hello"), Row("2", "you fool"), Row("3", "another text"), Row("4", "text"), Row("5", "unseen")]
    assert outcomes(teacher, rows, progress) == {
        "1": ("ok", "answered", "ok"),
        "2": (None, "unparsable", "not toxic"),
        "4": ("toxic", "answered", "Toxic."),
    }
    assert progress.notes == []  # who asks counts the rows without an answer, over all pieces
    assert progress.advances[-1] == (5, 5)


def test_the_answer_for_an_id_wins_over_one_for_its_text(tmp_path: Path, progress: Any) -> None:
    log = write_log(tmp_path / "log.jsonl", ("1", "same", "ok"), ("2", "same", "toxic"))
    found = outcomes(opened(progress, log), [Row("2", "same"), Row("9", "same")], progress)
    assert found["2"][0] == "toxic"
    assert found["9"][0] == "ok"


def test_rows_known_by_their_text_alone(tmp_path: Path, progress: Any) -> None:
    log = write_log(tmp_path / "log.jsonl", ("", "Hello there", "toxic"), ("", "hello  there", "ok"))
    rows = [Row(content_id("hello  there"), "hello  there")]
    assert outcomes(opened(progress, log, id_column=None), rows, progress)[rows[0].id][0] == "ok"


def test_keys_and_values_of_answers(tmp_path: Path, progress: Any) -> None:
    log = write_log(tmp_path / "log.jsonl", ("1", "a", '{"why": "x", "toxic": true}'), ("2", "b", '{"toxic": false}'))
    teacher = opened(progress, log, answer_key="toxic", answer_values={True: "toxic", False: "ok"})
    found = outcomes(teacher, [Row("1", "a"), Row("2", "b")], progress)
    assert [found[row_id][0] for row_id in "12"] == ["toxic", "ok"]


def test_several_logs_and_rows_that_are_done(tmp_path: Path, progress: Any) -> None:
    logs = [
        write_log(tmp_path / "a.jsonl", ("1", "a", "ok")),
        write_log(tmp_path / "b.jsonl", ("2", "b", "toxic"), ("1", "a", "toxic")),
    ]
    teacher = opened(progress, *logs)
    rows = [Row("1", "a"), Row("2", "b")]
    assert outcomes(teacher, rows, progress)["1"][0] == "ok"
    assert outcomes(teacher, rows, progress, done=frozenset({("1", 0)})).keys() == {"2"}


def test_the_fingerprint_is_that_of_the_files(tmp_path: Path, progress: Any) -> None:
    first = write_log(tmp_path / "a.jsonl", ("1", "a", "ok"))
    copy = write_log(tmp_path / "b.jsonl", ("1", "a", "ok"))
    assert opened(progress, first).fingerprint == opened(progress, copy).fingerprint
    write_log(copy, ("1", "a", "toxic"))
    assert opened(progress, first).fingerprint != opened(progress, copy).fingerprint


def test_bad_lines_are_listed_and_bad_logs_named(tmp_path: Path, progress: Any) -> None:
    first = write_log(tmp_path / "a.jsonl", ("1", "a", "ok"))
    log = write_log(tmp_path / "log.jsonl", ("2", "b", "ok"))
    log.write_text('["private words"]\n' + log.read_text() + '{"key": "3", "messages": []}\n')
    assert opened(progress, first, log).bad_lines.first == (
        f"{log}:1 a list, where a JSON object was expected",
        f"{log}:3 the answer is missing",
    )
    with pytest.raises(DataError, match="a list, where") as raised:
        opened(progress, first, log, strict=True)
    assert raised.value.where == f"{log}:1"
    assert "--strict" in str(raised.value.hint)
    log.write_text("{broken\n")
    with pytest.raises(DataError) as raised:
        opened(progress, log)
    assert str(log) in str(raised.value.where)
    with pytest.raises(DataError, match="no such file"):
        opened(progress, tmp_path / "absent.jsonl")


def test_what_answers_are_parsed_against_is_part_of_the_prompt_s_fingerprint(tmp_path: Path, progress: Any) -> None:
    log = write_log(tmp_path / "log.jsonl", ("1", "a", "fine"))
    config = TeacherConfig(log=(str(log),))
    prints = {
        open_labeller(config, ClassificationTask("Toxic?", labels), progress, id_column="key").prompt_fingerprint
        for labels in (
            TASK.labels,
            (Label("ok", "civil", "fine"), TASK.labels[1]),
            (Label("fine", "civil", "ok"), TASK.labels[1]),
        )
    }
    assert len(prints) == 3


def test_what_was_done_to_the_rows_is_done_to_the_log(tmp_path: Path, progress: Any) -> None:
    quoting = '{"why": "Jane", "label": "toxic"}'
    log = write_log(tmp_path / "log.jsonl", ("1", "I am Jane", "ok"), ("", "Jane is rude", quoting))
    config = TeacherConfig(log=(str(log),), answer_key="label")
    teacher = open_labeller(config, TASK, progress, id_column="key", change=lambda text: text.replace("Jane", "[NAME]"))
    assert isinstance(teacher, RecordedLabeller)
    found = outcomes(teacher, [Row("1", "I am [NAME]"), Row("9", "[NAME] is rude"), Row("3", "I am Jane")], progress)
    assert found == {
        "1": ("ok", "answered", "ok"),
        "9": ("toxic", "answered", '{"why": "[NAME]", "label": "toxic"}'),
    }
