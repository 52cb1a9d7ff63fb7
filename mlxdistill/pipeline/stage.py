"""What a stage is, and what it may know."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from mlxdistill.config.models import Config
from mlxdistill.errors import ConfigError, Problem
from mlxdistill.platform.ranks import Ranks
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.manifest import Manifest, Work
from mlxdistill.tasks.classification import ClassificationTask, Label, read_template
from mlxdistill.tasks.protocols import Progress


class Reporter(Progress, Protocol):
    """Progress, told apart by stage."""

    def begin(self, stage: str) -> None: ...

    def end(self, stage: str, summary: str) -> None: ...

    def skip(self, stage: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Options:
    """How to run: stop at the first bad line; draw the frozen rows anew; how many rows of the pool are labelled (None:
    as the last time); which ranks of `mlx.launch` help; where a training's curves go besides the log."""

    strict: bool = False
    new_splits: bool = False
    budget: int | Literal["all"] | None = None
    ranks: Ranks | None = None
    report_to: Literal["wandb"] | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """What a stage may know: the configuration, the task, the run folder and what earlier stages recorded."""

    config: Config
    task: ClassificationTask
    run: RunDir
    options: Options
    reporter: Reporter
    manifest: Manifest

    def inputs_of(self, stage: str) -> Mapping[str, Any]:
        """What an earlier stage depended on; its result, and so everything after it, changes only with that."""
        inputs: Mapping[str, Any] = self.manifest.stages.get(stage, {}).get("inputs", {})
        return inputs


@dataclass(frozen=True, slots=True)
class Result:
    """What a stage leaves: files, what the manifest keeps of its work, and one line for the user."""

    outputs: Sequence[Path]
    work: Work
    figures: Mapping[str, Any]
    summary: str


@dataclass(frozen=True, slots=True)
class Need:
    """Something on this disk that a stage cannot do without: the key that names it, and a look at it, which raises
    MlxDistillError where it is missing or no good."""

    key: tuple[str | int, ...]
    look: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage.

    Attributes:
        needs: what can be looked at before hours of work: none of it reads more than a header.
        inputs: everything the result depends on; the stage is skipped while it stays the same.
        work: does it.
        is_kept: whether what the stage left besides its outputs, in the label store, is still there.
        frozen: the outputs are test rows: once written, they are never replaced by others.
    """

    name: str
    needs: Callable[[Config], Iterator[Need]]
    inputs: Callable[[Context], Mapping[str, Any]]
    work: Callable[[Context], Result]
    is_kept: Callable[[RunDir], bool] = lambda run: True
    frozen: bool = False


def no_needs(config: Config) -> Iterator[Need]:
    """Of a stage that reads the run folder alone."""
    return iter(())


def task_of(config: Config) -> ClassificationTask:
    """The task that a configuration describes."""
    labels = (
        Label(name, label.description or name, label.verbalizer or name) for name, label in config.task.labels.items()
    )
    return ClassificationTask(config.task.instruction, tuple(labels))


def prompt_template(path: str | None, key: str) -> str | None:
    """The text of a prompt file, or None where none is configured. Raises ConfigError where it cannot be used."""
    if path is None:
        return None
    template = read_template(Path(path), key)
    if isinstance(template, Problem):
        raise ConfigError([template])
    return template
