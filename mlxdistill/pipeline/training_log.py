"""What a training reports, written down: in `log.jsonl` each step once, and wherever else the user wants to see it.

A training that was killed and goes on reports everything again, so that nothing can be missing; the log leaves out what
it has. So the log of a run that was stopped often reads like that of one that never was, but for the times, and for a
line each time it began.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Literal

from mlxdistill.pipeline.weights_and_biases import wandb_reports
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.log import log_event, read_log
from mlxdistill.student.requests import LossEvent, TrainReport, TrainRequest, TrainStart
from mlxdistill.tasks.protocols import Progress

_EVENTS = ("training", "validation")


@contextlib.contextmanager
def training_log(
    run: RunDir, report_to: Literal["wandb"] | None, request: TrainRequest, progress: Progress
) -> Iterator[Callable[[TrainReport], None]]:
    """What `train_student` calls with each report.

    Raises MlxDistillError where a log cannot be begun.
    """
    log = TrainingLog(run)
    if report_to is None:
        yield log
        return
    with wandb_reports(run, _settings(request), progress) as mirror:

        def both(report: TrainReport) -> None:
            log(report)
            mirror(report)

        yield both


def _settings(request: TrainRequest) -> dict[str, Any]:
    """What a list of trainings is told apart by."""
    return {
        "model": request.model,
        "quantize": request.quantize,
        "fine_tune_type": request.fine_tune_type,
        "max_tokens": request.max_tokens,
        "lora": request.lora.model_dump(mode="json"),
        "train": request.train.model_dump(mode="json"),
    }


class TrainingLog:
    """Writes reports to `log.jsonl`."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._training = ""
        self._known: set[tuple[str, int]] = set()

    def __call__(self, report: TrainReport) -> None:
        figures = dataclasses.asdict(report)
        if isinstance(report, TrainStart):
            self._training = report.training
            self._known = known_reports(self._run, report.training) if report.step else set()
            log_event(self._run, "training_started", **figures)
            return
        event = "training" if isinstance(report, LossEvent) else "validation"
        if (event, report.step) not in self._known:
            self._known.add((event, report.step))
            log_event(self._run, event, **figures)


def known_reports(run: RunDir, training: str) -> set[tuple[str, int]]:
    """Event and step of what the log holds of a training, since it was last begun from nothing."""
    known: set[tuple[str, int]] = set()
    of_it = False
    for record in read_log(run):
        if record.get("event") == "training_started":
            of_it = record.get("training") == training
            if of_it and record.get("step") == 0:
                known.clear()
        elif of_it and record.get("event") in _EVENTS:
            known.add((record["event"], record["step"]))
    return known
