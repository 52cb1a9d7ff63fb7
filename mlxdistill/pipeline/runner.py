"""Runs stages in order, skips what has not changed, and records what was done."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mlxdistill.config.load import LoadedConfig
from mlxdistill.config.models import Config
from mlxdistill.config.save import to_yaml
from mlxdistill.errors import ConfigError, MlxDistillError, Problem, UsageError
from mlxdistill.pipeline.ranks import SHARED
from mlxdistill.pipeline.stage import Context, Need, Options, Reporter, Stage, task_of
from mlxdistill.platform.ranks import dismiss
from mlxdistill.rundir.files import write_text
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.lock import locked
from mlxdistill.rundir.log import log_event
from mlxdistill.rundir.manifest import Manifest
from mlxdistill.tasks.rows import canonical_json, content_hash


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

    Raises ConfigError where several things that the stages need are missing, or the error of the one that is,
    MlxDistillError where a stage before the first of them has not finished, UsageError where frozen rows would
    change, and whatever a stage raises.
    """
    with locked(run):
        context = Context(loaded.config, task_of(loaded.config), run, options, reporter, Manifest(run))
        ran = Ran(run)
        look_ahead([stage for stage in stages if stage.name in names], context, loaded)
        for stage in stages:
            if stage.name in names:
                if not ran.done and not ran.skipped:
                    _save_config(context)
                (ran.done if _run_stage(stage, context) else ran.skipped).append(stage.name)
                if stage.name in SHARED and options.ranks is not None:
                    dismiss(options.ranks)
            elif not ran.done and not ran.skipped:
                _check_finished(stage, context)
        return ran


def look_ahead(stages: Sequence[Stage], context: Context, loaded: LoadedConfig) -> None:
    """Says what a later stage would fail for before an earlier one has worked for hours.

    Raises ConfigError where several things are missing, or the error of the one that is.
    """
    found: list[tuple[Need, MlxDistillError]] = []
    for stage in stages:
        if not context.manifest.stages.get(stage.name, {}).get("finished"):
            found += _missing(stage, context)
    found = list({(need.key, str(error)): (need, error) for need, error in found}.values())  # two stages, one model
    if len(found) == 1:
        raise found[0][1]
    if found:
        problems: list[Problem] = []
        for need, error in found:
            known = error.problems if isinstance(error, ConfigError) else ()
            problems += known or (Problem(loaded.origin(need.key), f"{error.where}: {error.message}", error.hint),)
        raise ConfigError(problems)


def _missing(stage: Stage, context: Context) -> list[tuple[Need, MlxDistillError]]:
    found = []
    for need in stage.needs(context.config):
        try:
            need.look()
        except MlxDistillError as error:
            found.append((need, error))
    return found


def _check_finished(stage: Stage, context: Context) -> None:
    if not _is_current(stage, context, _inputs(stage, context)):
        raise MlxDistillError(
            f"{stage.name} comes first: it has not finished, or what it depends on has changed",
            where=str(context.run.path),
            hint=f"mlxdistill {stage.name} CONFIG, or `mlxdistill run CONFIG` for all stages",
        )


def _inputs(stage: Stage, context: Context) -> Mapping[str, Any]:
    """What the stage depends on; as recorded where that is gone by now, and what the stage made of it is whole.

    Nobody should need the teacher's gigabytes, or the source, to train again on labels that are kept.
    """
    try:
        return stage.inputs(context)
    except MlxDistillError as error:
        record = context.manifest.stages.get(stage.name, {})
        made = record.get("configured") == _configured(context.config)
        if not (made and record["finished"] and _missing(stage, context)):
            raise
        context.reporter.note(f"{error.where}: {error.message}; what `{stage.name}` made of it is used")
        recorded: Mapping[str, Any] = record["inputs"]
        return recorded


def _configured(config: Config) -> str:
    """Stands for the settings that name the files a stage needs."""
    named = {"task", "data", "teacher"} | ({"combine"} if len(config.teachers) > 1 else set())
    return content_hash(canonical_json(config.model_dump(mode="json", include=named)))


def _is_current(stage: Stage, context: Context, inputs: Mapping[str, Any]) -> bool:
    return stage.is_kept(context.run) and context.manifest.is_current(stage.name, inputs)


def _run_stage(stage: Stage, context: Context) -> bool:
    inputs = _inputs(stage, context)
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
    clock = context.manifest.start(stage.name, inputs, _configured(context.config))
    result = stage.work(context)
    context.manifest.finish(stage.name, clock, result.outputs, result.work, result.figures)
    log_event(context.run, "stage_finished", stage=stage.name, **asdict(result.work), figures=dict(result.figures))
    context.reporter.end(stage.name, result.summary)
    return True


def _save_config(context: Context) -> None:
    text = to_yaml(context.config)
    if not context.run.config.exists() or context.run.config.read_text("utf-8") != text:
        write_text(context.run.config, text)
