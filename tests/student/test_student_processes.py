"""Training and prediction in processes of their own, one of them killed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_students import CORPUS, LABELS, PROMPT, Reporter, train_here, train_request

from mlxdistill.errors import DataError, WorkerError
from mlxdistill.student.predictor import StudentPredictor
from mlxdistill.student.requests import PredictRequest, TrainEvent, TrainReport, TrainStart
from mlxdistill.student.trainer import train_student
from mlxdistill.tasks.rows import Row
from mlxdistill.workers import Worker

ModelFolder = Callable[[str], Path]


def test_a_killed_training_goes_on_to_the_same_adapter(
    model_folder: ModelFolder, work: Path, progress: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"lora": {"dropout": 0.1}, "train": {"validations_per_epoch": 2}}
    shutil.copytree(work / "data", work / "whole" / "data")
    train_here(train_request(model_folder("llama"), work / "whole", **settings), Reporter())
    request = train_request(model_folder("llama"), work, **settings)
    workers: list[Worker] = []
    entered = Worker.__enter__
    monkeypatch.setattr(Worker, "__enter__", lambda self: (workers.append(self), entered(self))[1])

    def kill(report: TrainReport) -> None:
        if report.step == 4:
            workers[0]._process.kill()

    with pytest.raises(WorkerError):
        train_student(request, progress, kill)
    assert not (work / "adapters").exists()
    reports: list[TrainReport] = []
    result = train_student(request, progress, reports.append)
    assert isinstance(reports[0], TrainStart)
    assert reports[0].step == 4
    assert [report.step for report in reports if isinstance(report, TrainEvent)] == [2, 4, 6, 8]
    assert result.peak_memory_bytes > 10_000_000
    expected = (work / "whole" / "adapters" / "adapters.safetensors").read_bytes()
    assert (work / "adapters" / "adapters.safetensors").read_bytes() == expected

    predict = PredictRequest(str(model_folder("llama")), work / "adapters", None, LABELS, PROMPT, 64)
    rows = [Row(f"r{number}", text * (1 + number)) for number, text in enumerate(CORPUS)]
    with StudentPredictor(predict, progress) as student:
        answers = [answer for wave in student.predict(rows, progress) for answer in wave]
        assert student.rows_per_second > 0
        assert student.peak_memory_bytes > 10_000_000
        again = [answer for wave in student.predict(rows[::-1], progress) for answer in wave]
    assert [answer.row_id for answer in answers] == [row.id for row in rows]
    assert [answer.row_id for answer in again] == [row.id for row in rows[::-1]]
    assert answers[2].outcome == "truncated"
    assert answers[0].outcome == "answered"
    for answer, other in zip(answers, again[::-1], strict=True):
        assert answer.probabilities is not None
        assert other.probabilities == pytest.approx(answer.probabilities, abs=1e-5)
        assert answer.label == LABELS[max(range(4), key=answer.probabilities.__getitem__)][0]
        assert sum(answer.probabilities) == pytest.approx(1)


def test_what_a_user_can_mend_crosses_the_process_border(model_folder: ModelFolder, work: Path, progress: Any) -> None:
    (work / "data" / "train.jsonl").write_text("{\n")
    with pytest.raises(DataError) as caught:
        train_student(train_request(model_folder("llama"), work), progress, lambda event: None)
    assert caught.value.where == f"{work / 'data' / 'train.jsonl'}:1"
