"""`predict --rationale` asks a student that has learned rationales why, and refuses one that has not."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mlxdistill.pipeline import train
from mlxdistill.tasks.classification import Prompt
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row

CONFIG = """\
task: {instruction: Decide., labels: [ok, toxic]}
data: {source: rows.jsonl, fields: {text: text, id: id}}
teacher: {model: embedded:teacher, answer: generate, rationale: true, max_tokens: 9}
student: {model: embedded:student}
train: {rationale_weight: 0.5}
"""


class Student:
    truncated = 0
    unfinished = 1
    asked: list[tuple[list[str], Prompt, int]]

    def __init__(self) -> None:
        self.asked = []

    def predict(self, rows: Sequence[Row], progress: object) -> Iterator[list[Answer]]:
        for row in rows:
            yield [Answer(row.id, "ok", (0.75, 0.25), "answered")]

    def generate(self, rows: Sequence[Row], prompt: Prompt, max_tokens: int) -> Iterator[list[Answer]]:
        self.asked.append(([row.text for row in rows], prompt, max_tokens))
        yield [
            Answer(rows[0].id, None, text=f"<think>\n\n</think>\n\n{rows[0].text}, it says\n"),
            Answer(rows[1].id, None, text=json.dumps({"rationale": f"{rows[1].text}, it says", "label": "ok"})),
        ]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(CONFIG)
    trained(tmp_path / "run", 0.5)
    (tmp_path / "rows.jsonl").write_text('{"id": "1", "text": "a, b"}\n{"id": "2", "text": "c"}\n')
    monkeypatch.setattr(train, "check_finished", lambda config, run: None)
    return tmp_path / "run"


@pytest.fixture
def student(run: Path, monkeypatch: pytest.MonkeyPatch) -> Student:
    student = Student()
    monkeypatch.setattr(train, "open_student", lambda *_: contextlib.nullcontext(student))
    return student


def trained(run: Path, rationale_weight: float) -> None:
    stages = {"train": {"inputs": {"train": {"rationale_weight": rationale_weight}}}}
    (run / "manifest.json").write_text(json.dumps({"schema": 1, "frozen": {}, "stages": stages}))


def test_jsonl_has_the_rationale_beside_the_label(call: Any, run: Path, student: Student) -> None:
    result = call("predict", run, "rows.jsonl", "--rationale", "--quiet")
    assert result.returncode == 0
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"id": "1", "label": "ok", "probabilities": {"ok": 0.75, "toxic": 0.25}, "rationale": "a, b, it says"},
        {"id": "2", "label": "ok", "probabilities": {"ok": 0.75, "toxic": 0.25}, "rationale": "c, it says"},
    ]
    assert "1 rationales are cut off" in result.stderr


def test_csv_has_a_column_more(call: Any, run: Path, student: Student) -> None:
    result = call("predict", run, "rows.jsonl", "--rationale", "--output", "out.csv", "--json")
    assert json.loads(result.stdout)["unfinished"] == 1
    with (run.parent / "out.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["id", "label", "p(ok)", "p(toxic)", "rationale"],
            ["1", "ok", "0.75", "0.25", "a, b, it says"],
            ["2", "ok", "0.75", "0.25", "c, it says"],
        ]


def test_students_are_asked_why_only_when_the_user_does(call: Any, run: Path, student: Student) -> None:
    plain = call("predict", run, "rows.jsonl")
    assert student.asked == []
    assert "rationale" not in plain.stdout + plain.stderr
    call("predict", run, "rows.jsonl", "--rationale")
    [(texts, prompt, max_tokens)] = student.asked
    assert texts == ["a, b", "c"]
    assert max_tokens == 9
    labelling = train.student_prompt(_config(run))
    assert prompt.head.startswith("Decide.")
    assert prompt != labelling


def test_a_student_without_rationales_is_refused_before_any_row(call: Any, run: Path, student: Student) -> None:
    trained(run, 0.0)
    result = call("predict", run, "rows.jsonl", "--rationale", "--output", "out.jsonl")
    assert result.returncode == 1
    assert "this student has learned no rationales" in result.stderr
    assert "train.rationale_weight" in result.stderr
    assert not (run.parent / "out.jsonl").exists()
    assert call("predict", run, "rows.jsonl").returncode == 0


def test_a_real_student_writes_them(call: Any, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = train.open_student
    monkeypatch.setattr(train, "open_student", lambda *given: opened(*given, trained=False))
    result = call("predict", run, "rows.jsonl", "--rationale")
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["id"] for record in records] == ["1", "2"]
    assert all(record["label"] in ("ok", "toxic") and record["rationale"] for record in records)


def _config(run: Path) -> Any:
    from mlxdistill.config.load import load_config

    return load_config(run / "config.yaml", environment={}).config
