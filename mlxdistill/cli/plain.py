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
from mlxdistill.pipeline.training_log import training_log
from mlxdistill.pipeline.weights_and_biases import check_report_to
from mlxdistill.platform.ranks import dismiss, join_ranks
from mlxdistill.rundir.files import os_errors, sync_folder
from mlxdistill.rundir.lock import locked
from mlxdistill.student.adapter import CONFIG_FILE, WEIGHTS_FILE
from mlxdistill.student.requests import TrainRequest
from mlxdistill.student.trainer import help_train, train_student
from mlxdistill.workers import stop_asked


def train_folder(
    model: str,
    data: Path,
    settings: Sequence[str],
    folder: Path,
    *,
    report_to: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Trains on `data/train.jsonl` and `data/valid.jsonl`; the adapter goes to `folder` itself, as with `mlx_lm.lora`.

    Settings are those of `student` and `train` (`--set train.epochs=2`). Raises UsageError where the folder holds
    something else.
    """
    mirror = check_report_to(report_to)
    student, train = parse_settings(settings, model)
    ranks = join_ranks(stop_asked)
    if ranks is not None and ranks.rank > 0:
        help_train(ranks, student.model, TerminalReporter(quiet=True))
        return
    run = own_folder(folder)
    trained = run.path / "trained"
    request = TrainRequest(
        model=student.model,
        quantize=student.quantize,
        fine_tune_type=student.fine_tune_type,
        lora=student.lora,
        train=train,
        max_tokens=student.max_tokens,
        data=data.absolute(),
        output=trained,
        checkpoints=run.path / "checkpoints",
    )
    with locked(run), TerminalReporter(quiet=quiet).live() as reporter:
        reporter.begin("train")
        with training_log(run, mirror, request, reporter) as on_report:
            result = train_student(request, reporter, on_report, ranks)
        if ranks is not None:
            dismiss(ranks)
        _move_adapter(trained, run.path)
        reporter.end("train", training_line(result))
    if as_json:
        print_json({"adapter": str(run.path), **dataclasses.asdict(result)})
        return
    print_lines([str(run.path)])
    if not quiet:
        print_lines(["", *_how_to_try(model, student.quantize, run.path)])


def _how_to_try(model: str, quantize: int | None, adapter: Path) -> list[str]:
    """The command that asks the student, which is the base it was trained on with its adapter."""
    if quantize is None:
        return [f"try it: mlx_lm.generate --model {model} --adapter-path {adapter}"]
    return [
        f"try it: mlx_lm.convert --hf-path {model} --mlx-path quantized --quantize --q-bits {quantize}",
        f"        mlx_lm.generate --model quantized --adapter-path {adapter}",
    ]


def _move_adapter(trained: Path, folder: Path) -> None:
    """Puts the adapter beside the log. The old weights go first, so that none ever stand beside another's shape."""
    with os_errors(folder):
        (folder / WEIGHTS_FILE).unlink(missing_ok=True)
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            os.replace(trained / name, folder / name)
        trained.rmdir()
        sync_folder(folder)
