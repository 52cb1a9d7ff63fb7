"""Runs stages in order, skips what has not changed, and records what was done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mlxdistill.config.load import LoadedConfig
from mlxdistill.errors import MlxDistillError
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


def run_stages(loaded: LoadedConfig, run: RunDir, stages: Sequence[Stage], reporter: Reporter, options: Options) -> Ran:
    """Runs the stages in order, in a run folder held by this process alone.

    Raises MlxDistillError where an earlier stage's files are missing, and whatever a stage raises.
    """
    with locked(run):
        manifest = Manifest(run)
        context = Context(loaded.config, task_of(loaded.config), run, options, reporter, manifest)
        _save_config(context)
        ran = Ran(run)
        for stage in stages:
            if _run_stage(stage, context):
                ran.done.append(stage.name)
            else:
                ran.skipped.append(stage.name)
        return ran


def _run_stage(stage: Stage, context: Context) -> bool:
    for path in stage.needs(context.run):
        if not path.exists():
            raise MlxDistillError(
                f"{stage.name} needs a file that is not there yet",
                where=str(path),
                hint="run the stages before it, or `mlxdistill run CONFIG` for all of them",
            )
    inputs = stage.inputs(context)
    if context.manifest.is_current(stage.name, inputs):
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
    import yaml

    text = yaml.safe_dump(context.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    if not context.run.config.exists() or context.run.config.read_text("utf-8") != text:
        write_text(context.run.config, text)
