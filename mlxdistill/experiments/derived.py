"""Runs derived from a run: the same rows and labels, other settings of what comes after.

Nothing is labelled twice, and a derived run that has finished with the same settings is not run again. Each is a run
folder in `children/` of the run it came from, with a configuration, a manifest and an evaluation of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxdistill.config.load import LoadedConfig, load_config
from mlxdistill.pipeline import STAGES, Options, Reporter, run_stages
from mlxdistill.rundir.layout import DerivedRun, RunDir
from mlxdistill.rundir.manifest import Manifest

SHARED = ("ingest", "label", "filter")
OWN = ("train", "eval")


@dataclass(frozen=True, slots=True)
class Derivation:
    """A run to be derived: its name in `children/`, what a user reads of it, and what `--set` would say."""

    name: str
    title: str
    settings: tuple[str, ...]


def prepare(loaded: LoadedConfig, run: RunDir, reporter: Reporter) -> None:
    """Brings a run as far as those derived from it begin: rows, labels, filters. Raises what these stages raise."""
    run_stages(loaded, run, SHARED, STAGES, reporter, Options())


def derive(path: Path, settings: Sequence[str], run: RunDir, derivation: Derivation, reporter: Reporter) -> DerivedRun:
    """Trains and evaluates a derived run, unless it has been. The caller holds the lock of `run`.

    Args:
        path, settings: the configuration of `run` and what changes it there too.

    Raises ConfigError for settings that cannot be, and what the stages raise.
    """
    child = DerivedRun(run.children / derivation.name, run)
    loaded = load_config(path, (*settings, *derivation.settings))
    Manifest(child).adopt(Manifest(run), SHARED)
    stages = [stage for stage in STAGES if stage.name in OWN]
    run_stages(loaded, child, OWN, stages, _OneBar(reporter, derivation.title), Options())
    return child


class _OneBar:
    """Shows all stages of a derived run as one; what they say of themselves stands in the run's log."""

    def __init__(self, reporter: Reporter, title: str) -> None:
        self._reporter = reporter
        self._title = title
        self._begun = False

    def begin(self, stage: str) -> None:
        if not self._begun:
            self._reporter.begin(self._title)
        self._begun = True

    def end(self, stage: str, summary: str) -> None:
        pass

    def skip(self, stage: str) -> None:
        pass

    def note(self, message: str) -> None:
        pass

    def advance(self, done: int, total: int, **figures: float) -> None:
        self._reporter.advance(done, total, **figures)
