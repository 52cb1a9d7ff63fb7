"""The order of the stages, and nothing else.

    ingest -> label -> filter -> train -> evaluate -> report

Each stage says what its result depends on, does its work through its room, and hands on files. A stage whose inputs have
not changed is skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mlxdistill.config.load import LoadedConfig
from mlxdistill.config.models import Config
from mlxdistill.errors import MlxDistillError, UsageError
from mlxdistill.rundir.files import file_sha256, write_text
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.lock import locked
from mlxdistill.rundir.log import log_event
from mlxdistill.rundir.manifest import Manifest
from mlxdistill.tasks.classification import ClassificationTask, Label
from mlxdistill.tasks.protocols import Progress

STAGES = ("ingest", "label", "filter", "train", "eval", "report")


class Reporter(Progress, Protocol):
    """Progress, told apart by stage."""

    def begin(self, stage: str) -> None: ...

    def end(self, stage: str, summary: str) -> None: ...

    def skip(self, stage: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Options:
    """How to run: stop at the first bad line; draw the frozen rows anew."""

    strict: bool = False
    new_splits: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """What a stage may know."""

    config: Config
    task: ClassificationTask
    run: RunDir
    options: Options
    reporter: Reporter
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Result:
    """What a stage leaves: files, figures for the manifest, and one line for the user."""

    outputs: Sequence[Path]
    figures: Mapping[str, Any]
    summary: str


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage: the files it needs, what its result depends on, and its work."""

    name: str
    needs: Callable[[RunDir], Sequence[Path]]
    inputs: Callable[[Context], Mapping[str, Any]]
    work: Callable[[Context], Result]


@dataclass(slots=True)
class Ran:
    """What was done and what could be skipped."""

    run: RunDir
    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def task_of(config: Config) -> ClassificationTask:
    labels = (
        Label(name, label.description or name, label.verbalizer or name) for name, label in config.task.labels.items()
    )
    return ClassificationTask(config.task.instruction, tuple(labels))


def run_stages(loaded: LoadedConfig, run: RunDir, names: Sequence[str], reporter: Reporter, options: Options) -> Ran:
    """Runs the named stages in order, in a run folder held by this process alone.

    Raises UsageError where frozen rows would change, MlxDistillError where an earlier stage's files are missing, and
    whatever a stage raises.
    """
    with locked(run):
        manifest = Manifest(run)
        context = Context(loaded.config, task_of(loaded.config), run, options, reporter, manifest)
        _save_config(context)
        ran = Ran(run)
        for stage in _stages():
            if stage.name in names:
                _run_stage(stage, context, ran)
        return ran


def _run_stage(stage: Stage, context: Context, ran: Ran) -> None:
    for path in stage.needs(context.run):
        if not path.exists():
            raise MlxDistillError(
                f"{stage.name} needs a file that is not there yet",
                where=str(path),
                hint="run the stages before it, or `mlxdistill run CONFIG` for all of them",
            )
    inputs = stage.inputs(context)
    if context.manifest.is_current(stage.name, inputs) and not (stage.name == "ingest" and context.options.new_splits):
        context.reporter.skip(stage.name)
        ran.skipped.append(stage.name)
        return
    context.reporter.begin(stage.name)
    log_event(context.run, "stage_started", stage=stage.name)
    clock = context.manifest.start(stage.name, inputs)
    result = stage.work(context)
    context.manifest.finish(stage.name, clock, result.outputs, result.figures)
    log_event(context.run, "stage_finished", stage=stage.name, figures=dict(result.figures))
    context.reporter.end(stage.name, result.summary)
    ran.done.append(stage.name)


def _save_config(context: Context) -> None:
    import yaml

    text = yaml.safe_dump(context.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    if not context.run.config.exists() or context.run.config.read_text("utf-8") != text:
        write_text(context.run.config, text)
