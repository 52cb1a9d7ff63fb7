"""`mlxdistill train --model M --data DIR`: fine-tune on a plain mlx-lm folder, for whoever comes from `mlx_lm.lora`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from mlxdistill.cli.console import TerminalReporter, print_json, print_lines
from mlxdistill.config.load import parse_settings
from mlxdistill.privacy.guard import install_guard
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.lock import locked
from mlxdistill.rundir.log import log_event
from mlxdistill.student.requests import TrainEvent, TrainRequest
from mlxdistill.student.trainer import train_student


def train_folder(model: str, data: Path, settings: Sequence[str], folder: Path, *, as_json: bool, quiet: bool) -> None:
    """Trains on `data/train.jsonl` and `data/valid.jsonl`; adapters and checkpoints go to `folder/student`.

    Settings are those of `student` and `train` (`--set train.epochs=2`).
    """
    install_guard()
    student, train = parse_settings(settings, model)
    run = RunDir(folder.absolute())
    request = TrainRequest(
        model=student.model,
        quantize=student.quantize,
        lora=student.lora,
        train=train,
        max_tokens=student.max_tokens,
        data=data.absolute(),
        output=run.adapters,
        checkpoints=run.checkpoints,
    )

    def on_event(event: TrainEvent) -> None:
        log_event(run, "validation", **dataclasses.asdict(event))

    with locked(run), TerminalReporter(quiet=quiet).live() as reporter:
        reporter.begin("train")
        result = train_student(request, reporter, on_event)
        line = f"{result.steps:,} steps, {result.rows_per_second:,.1f} rows/s"
        if result.best_valid_loss is not None:
            line += f", best validation loss {result.best_valid_loss:.3f} at step {result.best_step:,}"
        reporter.end("train", line)
    if as_json:
        print_json({"adapter": str(run.adapters), **dataclasses.asdict(result)})
    elif not quiet:
        print_lines([str(run.adapters), "", f"try it: mlx_lm.generate --model {model} --adapter-path {run.adapters}"])
