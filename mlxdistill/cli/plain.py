"""`mlxdistill train --model M --data DIR`: fine-tune on a plain mlx-lm folder, for whoever comes from `mlx_lm.lora`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from mlxdistill.cli.console import TerminalReporter, print_json, print_lines
from mlxdistill.cli.session import own_folder
from mlxdistill.config.load import parse_settings
from mlxdistill.pipeline.train import training_line
from mlxdistill.rundir.files import os_errors, sync_folder
from mlxdistill.rundir.lock import locked
from mlxdistill.rundir.log import log_event
from mlxdistill.student.adapter import CONFIG_FILE, WEIGHTS_FILE
from mlxdistill.student.requests import TrainEvent, TrainRequest
from mlxdistill.student.trainer import train_student


def train_folder(model: str, data: Path, settings: Sequence[str], folder: Path, *, as_json: bool, quiet: bool) -> None:
    """Trains on `data/train.jsonl` and `data/valid.jsonl`; the adapter goes to `folder` itself, as with `mlx_lm.lora`.

    Settings are those of `student` and `train` (`--set train.epochs=2`). Raises UsageError where the folder holds
    something else.
    """
    student, train = parse_settings(settings, model)
    run = own_folder(folder)
    trained = run.path / "trained"
    request = TrainRequest(
        model=student.model,
        quantize=student.quantize,
        lora=student.lora,
        train=train,
        max_tokens=student.max_tokens,
        data=data.absolute(),
        output=trained,
        checkpoints=run.path / "checkpoints",
    )

    def on_event(event: TrainEvent) -> None:
        log_event(run, "validation", **dataclasses.asdict(event))

    with locked(run), TerminalReporter(quiet=quiet).live() as reporter:
        reporter.begin("train")
        result = train_student(request, reporter, on_event)
        _move_adapter(trained, run.path)
        reporter.end("train", training_line(result))
    if as_json:
        print_json({"adapter": str(run.path), **dataclasses.asdict(result)})
        return
    print_lines([str(run.path)])
    if not quiet:
        print_lines(["", f"try it: mlx_lm.generate --model {model} --adapter-path {run.path}"])


def _move_adapter(trained: Path, folder: Path) -> None:
    """Puts the adapter beside the log. The old weights go first, so that none ever stand beside another's shape."""
    with os_errors(folder):
        (folder / WEIGHTS_FILE).unlink(missing_ok=True)
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            os.replace(trained / name, folder / name)
        trained.rmdir()
        sync_folder(folder)
