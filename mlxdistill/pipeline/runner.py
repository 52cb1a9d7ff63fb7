"""Runs stages in order, skips what has not changed, and records what was done."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlxdistill.config.load import LoadedConfig
from mlxdistill.config.save import to_yaml
from mlxdistill.errors import MlxDistillError, UsageError
from mlxdistill.pipeline.stage import Context, Options, Reporter, Stage, task_of
from mlxdistill.rundir.files import write_text
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.lock import locked
from mlxdistill.rundir.log import log_event
from mlxdistill.rundir.manifest import Manifest


@dataclass(slots=True)
class Ran:
    """What was done and what could be skipped."""

    run: RunDir
    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def run_stages(
    loaded: LoadedConfig,
    run: RunDir,
    names: Collection[str],
    stages: Sequence[Stage],
    reporter: Reporter,
    options: Options,
) -> Ran:
    """Runs those of the stages that are named, in order, in a run folder held by this process alone.

    Raises MlxDistillError where a stage before the first of them has not finished, UsageError where frozen rows would
    change, and whatever a stage raises.
    """
    with locked(run):
        context = Context(loaded.config, task_of(loaded.config), run, options, reporter, Manifest(run))
        ran = Ran(run)
        for stage in stages:
            if stage.name in names:
                if not ran.done and not ran.skipped:
                    _save_config(context)
                (ran.done if _run_stage(stage, context) else ran.skipped).append(stage.name)
            elif not ran.done and not ran.skipped:
                _check_finished(stage, context)
        return ran


def _check_finished(stage: Stage, context: Context) -> None:
    if not _is_current(stage, context, stage.inputs(context)):
        raise MlxDistillError(
            f"{stage.name} comes first: it has not finished, or what it depends on has changed",
            where=str(context.run.path),
            hint=f"mlxdistill {stage.name} CONFIG, or `mlxdistill run CONFIG` for all stages",
        )


def _is_current(stage: Stage, context: Context, inputs: Mapping[str, Any]) -> bool:
    return stage.is_kept(context.run) and context.manifest.is_current(stage.name, inputs)


def _run_stage(stage: Stage, context: Context) -> bool:
    inputs = stage.inputs(context)
    altered = context.manifest.altered_outputs(stage.name)
    if stage.frozen and altered and not context.options.new_splits:
        raise UsageError(
            "the file was changed after it was frozen",
            where=str(context.run.path / altered[0]),
            hint="put it back; or draw the rows anew with --new-splits (numbers before and after cannot be compared)",
        )
    if _is_current(stage, context, inputs):
        context.reporter.skip(stage.name)
        return False
    context.reporter.begin(stage.name)
    log_event(context.run, "stage_started", stage=stage.name)
    clock = context.manifest.start(stage.name, inputs)
    result = stage.work(context)
    context.manifest.finish(stage.name, clock, result.outputs, result.figures)
    log_event(context.run, "stage_finished", stage=stage.name, figures=dict(result.figures))
    context.reporter.end(stage.name, result.summary)
    return True


def _save_config(context: Context) -> None:
    text = to_yaml(context.config)
    if not context.run.config.exists() or context.run.config.read_text("utf-8") != text:
        write_text(context.run.config, text)
