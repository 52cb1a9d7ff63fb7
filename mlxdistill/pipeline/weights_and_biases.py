"""`--report-to wandb`: a training's curves for Weights & Biases, in its offline form.

Everything stays in the run folder's `wandb/`, and the network guard stays on; whoever wants to see the curves in
W&B's own pages sends them there afterwards with `wandb sync`. The metrics have the names that mlx-lm gives them, so
that trainings of both stand in one chart. A training that was stopped leaves a W&B run for each time its command was
run, the last of which holds the whole curve.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from mlxdistill.errors import MlxDistillError, UsageError
from mlxdistill.rundir.layout import RunDir
from mlxdistill.student.requests import LossEvent, TrainEvent, TrainReport
from mlxdistill.tasks.protocols import Progress

WANDB: Literal["wandb"] = "wandb"


def check_report_to(name: str | None) -> Literal["wandb"] | None:
    """What `--report-to` says. Raises UsageError for anything but wandb, and where wandb is not installed."""
    if name is None:
        return None
    if name != WANDB:
        raise UsageError(f"{name!r} is not known", where="--report-to", hint="the only one is wandb, offline")
    found = importlib.util.find_spec(WANDB)
    if found is None or found.origin is None:  # a folder of runs called wandb looks like a package
        raise UsageError("wandb is not installed", where="--report-to", hint="pip install 'mlxdistill[wandb]'")
    return WANDB


@contextlib.contextmanager
def wandb_reports(
    run: RunDir, settings: Mapping[str, Any], progress: Progress
) -> Iterator[Callable[[TrainReport], None]]:
    """An offline W&B run that takes a training's reports.

    Raises MlxDistillError where it cannot be begun; later failures are said once, and the training goes on.
    """
    try:
        wandb_run = _begin(run, settings)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        message = f"wandb cannot begin: {reason}"
        raise MlxDistillError(message, where=str(run.path / WANDB), hint="leave --report-to out, or mend it") from error
    broken = False

    def attempt(call: Callable[[], object]) -> None:
        nonlocal broken
        if broken:
            return
        try:
            call()
        except Exception as error:
            broken = True
            progress.note(f"wandb fails ({type(error).__name__}); the training goes on without it")

    def report(what: TrainReport) -> None:
        if metrics := metrics_of(what):
            attempt(lambda: wandb_run.log(metrics, step=what.step))

    code = 1
    try:
        yield report
        code = 0
    finally:
        attempt(lambda: wandb_run.finish(exit_code=code))


def metrics_of(report: TrainReport) -> dict[str, float]:
    """A report's figures under the names that mlx-lm's callbacks give them; memory in GB."""
    found: dict[str, float | None] = {}
    if isinstance(report, LossEvent):
        found = {
            "train_loss": report.loss,
            "learning_rate": report.learning_rate,
            "gradient_norm": report.gradient_norm,
            "tokens_per_second": report.tokens_per_second,
            "peak_memory": report.peak_memory_bytes / 1e9,
            "epoch": report.epoch,
        }
    elif isinstance(report, TrainEvent):
        found = {
            "val_loss": report.valid_loss,
            "val_accuracy": report.valid_accuracy,
            "skipped_steps": report.skipped_steps,
        }
    return {name: value for name, value in found.items() if value is not None}


def _begin(run: RunDir, settings: Mapping[str, Any]) -> Any:
    folder = run.path / WANDB
    os.environ |= {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
    os.environ |= {name: str(folder / ".cache") for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR")}
    import wandb

    return wandb.init(
        project=os.environ.get("WANDB_PROJECT", "mlxdistill"),
        name=run.path.name,
        dir=str(run.path),
        config=dict(settings),
        mode="offline",
        # Neither the terminal's contents, which may show paths, nor anything about the machine and its programs.
        settings=wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            save_code=False,
            silent=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
        ),
    )
