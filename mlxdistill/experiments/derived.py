"""Runs derived from a run: the same rows and labels, other settings of what comes after.

Nothing is labelled twice, and a derived run that has finished with the same settings is not run again. Each is a run
folder in `children/` of the run it came from, with a configuration, a manifest and an evaluation of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxdistill.config.load import LoadedConfig, load_config
from mlxdistill.evaluation.measure import reference_labels
from mlxdistill.evaluation.records import Record, by_system_and_set, read_records
from mlxdistill.pipeline import STAGES, Options, Reporter, run_stages
from mlxdistill.rundir.files import read_json
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


@dataclass(frozen=True, slots=True)
class Scored:
    """What came of a derived run.

    Attributes:
        folder: relative to the run it came from.
        rows: how many it learned from.
        metric: `accuracy`, or `agreement` with the teacher where there is no gold.
        wrong: system -> set -> row id -> whether it was wrong.
        groups: set -> row id -> the row's group.
        majority: by set, the share of rows that always answering the most frequent label has right.
    """

    folder: str
    rows: int
    metric: str
    wrong: Mapping[str, Mapping[str, Mapping[str, bool]]]
    groups: Mapping[str, Mapping[str, str | None]]
    majority: Mapping[str, float]

    def shares_right(self, system: str) -> dict[str, float]:
        """By set, the share of rows that a system has right."""
        return {name: 1 - sum(rows.values()) / len(rows) for name, rows in self.wrong[system].items()}


def scored(child: DerivedRun, systems: Sequence[str]) -> Scored:
    """Reads a derived run's evaluation. Raises DataError where it was edited."""
    found = by_system_and_set(read_records(child.predictions))
    kind = read_json(child.metrics)["reference"]
    reference = {name: right for name, right in reference_labels(found, kind).items() if right}
    return Scored(
        str(child.path.relative_to(child.parent.path)),
        Manifest(child).figures("train")["rows_train"],
        "agreement" if kind == "teacher" else "accuracy",
        {
            system: {name: _wrong(found.get((system, name), {}), right) for name, right in reference.items()}
            for system in systems
        },
        {name: {row_id: row.group for row_id, row in found["student", name].items()} for name in reference},
        {name: max(Counter(right.values()).values()) / len(right) for name, right in reference.items()},
    )


def _wrong(records: Mapping[str, Record], right: Mapping[str, str]) -> dict[str, bool]:
    return {row_id: records[row_id].prediction != right[row_id] for row_id in sorted(records) if row_id in right}


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
