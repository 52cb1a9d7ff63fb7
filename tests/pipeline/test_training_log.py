"""What a training reports stands in the log once, in order, whatever stopped it; and in W&B's files, if asked."""

from __future__ import annotations

import json
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlxdistill.config.models import LoraConfig, TrainConfig
from mlxdistill.errors import MlxDistillError, UsageError
from mlxdistill.pipeline.report import _curve
from mlxdistill.pipeline.training_log import training_log
from mlxdistill.pipeline.weights_and_biases import check_report_to, metrics_of
from mlxdistill.report.training import training_section
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.log import log_event, read_log
from mlxdistill.student.requests import LossEvent, TrainEvent, TrainRequest, TrainStart

START = TrainStart("aaaa", 0, 8, 30, 10, 256, 64, False)
LOSSES = [LossEvent(step, step / 4, 1 / step, 1e-3, 0.5, 1000.0, 2_000_000_000) for step in range(1, 9)]
VALIDATIONS = [TrainEvent(step, step / 4, 1 / step, 2 / step, 0.5, 1e-3, 0.5, 0, True) for step in (4, 8)]
REPORTS = sorted([*LOSSES, *VALIDATIONS], key=lambda report: report.step)


@pytest.fixture
def request_(tmp_path: Path) -> TrainRequest:
    train = TrainConfig(learning_rate=1e-3)
    return TrainRequest("model", None, LoraConfig(), train, 128, tmp_path, tmp_path, tmp_path)


def session(run: RunDir, request: TrainRequest, progress: Any, reports: list[Any]) -> None:
    with training_log(run, None, request, progress) as log:
        for report in reports:
            log(report)


def logged(run: RunDir) -> list[tuple[str, int]]:
    return [(event["event"], event["step"]) for event in read_log(run) if event["event"] != "training_started"]


EXPECTED = [("training" if isinstance(report, LossEvent) else "validation", report.step) for report in REPORTS]


def test_every_report_is_logged_once_whatever_stopped_the_training(
    tmp_path: Path, request_: TrainRequest, progress: Any
) -> None:
    """Killed before a checkpoint, between a save and its reports, and back by one checkpoint."""
    run = RunDir(tmp_path)
    session(run, request_, progress, [START])
    session(run, request_, progress, [START, *REPORTS[:2]])
    session(run, request_, progress, [replace(START, step=4), *REPORTS[:5], *REPORTS[5:6]])
    session(run, request_, progress, [replace(START, step=4), *REPORTS[:5], *REPORTS[5:]])
    session(run, request_, progress, [replace(START, step=8), *REPORTS])
    assert logged(run) == EXPECTED
    starts = [event["step"] for event in read_log(run) if event["event"] == "training_started"]
    assert starts == [0, 0, 4, 4, 8]


def test_another_training_and_one_begun_anew_are_logged_beside_it(
    tmp_path: Path, request_: TrainRequest, progress: Any
) -> None:
    run = RunDir(tmp_path)
    session(run, request_, progress, [START, *REPORTS[:5]])
    session(run, request_, progress, [replace(START, training="bbbb"), *REPORTS[:3]])
    session(run, request_, progress, [replace(START, step=4), *REPORTS])
    assert logged(run) == [*EXPECTED[:5], *EXPECTED[:3], *EXPECTED[5:]]
    session(run, request_, progress, [START, *REPORTS[:2]])
    assert logged(run)[-2:] == EXPECTED[:2]


def test_a_line_that_a_full_disk_cut_spoils_no_other(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    log_event(run, "one")
    with run.log.open("a") as file:
        file.write('{"time": "2026-')
    log_event(run, "two")
    assert [event["event"] for event in read_log(run)] == ["one", "two"]


def test_the_curve_of_the_report_has_every_loss_and_validation() -> None:
    figures = {
        "losses": [[event.step, event.loss] for event in LOSSES],
        "history": [{"step": event.step, "loss": event.loss, "valid_loss": event.valid_loss} for event in VALIDATIONS],
    }
    curve = _curve(figures)
    assert [(point.step, point.loss) for point in curve] == [(event.step, event.loss) for event in LOSSES]
    assert [(point.step, point.valid_loss) for point in curve if point.valid_loss] == [(4, 0.5), (8, 0.25)]
    section = training_section(curve)
    assert "best validation loss, 0.250, was reached at step 8" in section.paragraphs[0]
    assert [(point.step, point.loss) for point in _curve({"history": figures["history"]})] == [(4, 0.25), (8, 0.125)]


class Stub(types.ModuleType):
    """As much of wandb as is used; `broken` raises in the calls that it names."""

    def __init__(self, broken: tuple[str, ...] = ()) -> None:
        super().__init__("wandb")
        self.broken = broken
        self.given: dict[str, Any] = {}
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.ended: list[int] = []

    def Settings(self, **settings: Any) -> dict[str, Any]:
        return settings

    def init(self, **given: Any) -> Any:
        self._maybe_fail("init")
        self.given = given
        return self

    def log(self, metrics: dict[str, float], step: int) -> None:
        self._maybe_fail("log")
        self.logged.append((step, metrics))

    def finish(self, exit_code: int) -> None:
        self._maybe_fail("finish")
        self.ended.append(exit_code)

    def _maybe_fail(self, call: str) -> None:
        if call in self.broken:
            raise OSError(f"{call} is broken\nin many words")


def test_wandb_gets_the_curve_under_mlx_lms_names_offline(
    tmp_path: Path, request_: TrainRequest, progress: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", wandb := Stub())
    monkeypatch.setattr("mlxdistill.pipeline.weights_and_biases.os.environ", environment := {"WANDB_MODE": "online"})
    run = RunDir(tmp_path / "toxic")
    run.path.mkdir()
    with training_log(run, "wandb", request_, progress) as log:
        for report in [START, *REPORTS]:
            log(report)
    assert logged(run) == EXPECTED
    assert [step for step, _ in wandb.logged] == [report.step for report in REPORTS]
    assert wandb.logged[0][1] == {
        "train_loss": 1.0,
        "learning_rate": 1e-3,
        "gradient_norm": 0.5,
        "tokens_per_second": 1000.0,
        "peak_memory": 2.0,
        "epoch": 0.25,
    }
    assert wandb.logged[-1][1] == {"val_loss": 0.25, "val_accuracy": 0.5, "skipped_steps": 0}
    assert (wandb.given["mode"], wandb.given["dir"], wandb.given["name"]) == ("offline", str(run.path), "toxic")
    assert environment["WANDB_MODE"] == "offline"
    assert environment["WANDB_CACHE_DIR"].startswith(str(run.path))
    assert wandb.given["config"]["train"]["learning_rate"] == 1e-3
    assert wandb.ended == [0]


def test_a_training_that_fails_is_failed_there_too(
    tmp_path: Path, request_: TrainRequest, progress: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", wandb := Stub())
    with pytest.raises(MlxDistillError, match="lost"), training_log(RunDir(tmp_path), "wandb", request_, progress):
        raise MlxDistillError("lost")
    assert wandb.ended == [1]


def test_wandb_that_breaks_costs_no_training_and_is_said_once(
    tmp_path: Path, request_: TrainRequest, progress: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir(tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", Stub(("log", "finish")))
    with training_log(run, "wandb", request_, progress) as log:
        for report in [START, *REPORTS]:
            log(report)
    assert logged(run) == EXPECTED
    assert progress.notes == ["wandb fails (OSError); the training goes on without it"]
    monkeypatch.setitem(sys.modules, "wandb", Stub(("init",)))
    with (
        pytest.raises(MlxDistillError, match=r"wandb cannot begin: init is broken$") as caught,
        training_log(run, "wandb", request_, progress),
    ):
        pass
    assert "--report-to" in (caught.value.hint or "")


def test_report_to_is_checked_before_anything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    (tmp_path / "wandb" / "offline-run-1").mkdir(parents=True)  # what an earlier run has left, no package
    with pytest.raises(UsageError, match="not installed") as caught:
        check_report_to("wandb")
    assert caught.value.hint == "pip install 'mlxdistill[wandb]'"
    (tmp_path / "wandb" / "__init__.py").write_text("")
    assert check_report_to("wandb") == "wandb"
    assert check_report_to(None) is None
    with pytest.raises(UsageError, match="'swanlab' is not known"):
        check_report_to("swanlab")


def test_a_loss_that_is_not_known_is_left_out() -> None:
    assert "train_loss" not in metrics_of(replace(LOSSES[0], loss=None))
    assert metrics_of(START) == {}


def test_no_report_could_carry_a_rows_text() -> None:
    for report in (START, LOSSES[0], VALIDATIONS[0]):
        for field in report.__dataclass_fields__.values():
            assert field.name == "training" or "str" not in str(field.type)
    json.dumps(metrics_of(LOSSES[0]))
