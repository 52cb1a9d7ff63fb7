"""What each stage did, from what, and whether it may be skipped.

A stage's record holds a hash of everything that its result depends on. When the hash is the same, the stage has
finished, and its outputs are still the bytes it wrote, running it again could change nothing.
"""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from mlxdistill.errors import DataError
from mlxdistill.rundir.files import file_sha256, read_json, write_json
from mlxdistill.rundir.layout import RunDir

SCHEMA = 1
RECORDED_PACKAGES = (
    "mlxdistill",
    "mlx",
    "mlx-lm",
    "llama-cpp-python",
    "numpy",
    "scikit-learn",
    "scipy",
    "tokenizers",
    "transformers",
)


@dataclass(frozen=True, slots=True)
class Work:
    """What every stage says of its work.

    Attributes:
        rows_in: rows it read.
        rows_out: rows it hands on: to the sets, with a label, past the filters, into training, with the student's
            answer, onto the page.
        threads: threads that computed; None where answers came from the store and nobody knows any more.
        seed: the seed of what it drew by chance; None where nothing was.
        settings: what was tuned on this machine (n_batch, threads, ...).
    """

    rows_in: int
    rows_out: int
    threads: int | None = 1
    seed: int | None = None
    settings: Mapping[str, Any] | None = None


@dataclass(slots=True)
class StageRecord:
    """One stage's entry in the manifest.

    Attributes:
        inputs: name -> hash or value of everything the result depends on.
        configured: hash of the settings that name the files it needs.
        outputs: path relative to the run folder -> sha256.
        rows_in, rows_out, threads, seed, settings: see `Work`; None until the stage has finished.
        versions: package -> version.
        figures: what this stage alone measures: rows per second, peak memory, notes, ...
    """

    inputs: dict[str, Any]
    started: str
    configured: str | None = None
    outputs: dict[str, str] = field(default_factory=dict)
    finished: str | None = None
    seconds: float | None = None
    rows_in: int | None = None
    rows_out: int | None = None
    threads: int | None = None
    seed: int | None = None
    settings: dict[str, Any] | None = None
    versions: dict[str, str] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)


class Manifest:
    """`manifest.json`, read at start and rewritten whole at each change."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self.stages: dict[str, dict[str, Any]] = {}
        self.frozen: dict[str, str] = {}
        if run.manifest.exists():
            content = read_json(run.manifest)
            if not isinstance(content, dict) or content.get("schema") != SCHEMA:
                raise DataError(
                    f"this run folder's manifest is not of schema {SCHEMA}",
                    where=str(run.manifest),
                    hint="it was written by another version; start a new folder with --run-dir",
                )
            self.stages, self.frozen = content["stages"], content["frozen"]

    def freeze(self, name: str, fingerprint: str) -> None:
        """Records what must not change any more, and what it was made from."""
        self.frozen[name] = fingerprint
        self._write()

    def adopt(self, other: Manifest, stages: Sequence[str]) -> None:
        """Takes over what another run's stages did: this run goes on from there."""
        self.stages = {name: other.stages[name] for name in stages} | {
            name: record for name, record in self.stages.items() if name not in stages
        }
        self._write()

    def altered_outputs(self, stage: str) -> list[str]:
        """Outputs of a finished stage that are there with other bytes than it wrote."""
        record = self.stages.get(stage)
        if record is None or record["finished"] is None:
            return []
        return [
            name
            for name, digest in record["outputs"].items()
            if (self._run.path / name).is_file() and file_sha256(self._run.path / name) != digest
        ]

    def is_current(self, stage: str, inputs: Mapping[str, Any]) -> bool:
        """Whether the stage finished with these inputs and its outputs are untouched."""
        record = self.stages.get(stage)
        if record is None or record["finished"] is None or record["inputs"] != _plain(inputs):
            return False
        return all(
            (self._run.path / name).is_file() and file_sha256(self._run.path / name) == digest
            for name, digest in record["outputs"].items()
        )

    def start(self, stage: str, inputs: Mapping[str, Any], configured: str | None = None) -> _Clock:
        """Begins a stage's record. Figures and settings of its last run stay until `finish` replaces them."""
        record = StageRecord(
            _plain(inputs), _now(), configured, settings=self.settings(stage), figures=self.figures(stage)
        )
        self.stages[stage] = _as_dict(record)
        self._write()
        return _Clock(record, time.monotonic())

    def finish(
        self, stage: str, clock: _Clock, outputs: Sequence[Path], work: Work, figures: Mapping[str, Any]
    ) -> None:
        record = clock.record
        record.finished = _now()
        record.seconds = round(time.monotonic() - clock.began, 3)
        record.outputs = {str(path.relative_to(self._run.path)): file_sha256(path) for path in outputs}
        record.rows_in, record.rows_out = work.rows_in, work.rows_out
        record.threads, record.seed = work.threads, work.seed
        record.settings = None if work.settings is None else dict(work.settings)
        record.versions = package_versions()
        record.figures = dict(figures)
        self.stages[stage] = _as_dict(record)
        self._write()

    def figures(self, stage: str) -> dict[str, Any]:
        figures: dict[str, Any] = self.stages.get(stage, {}).get("figures", {})
        return figures

    def settings(self, stage: str) -> dict[str, Any] | None:
        settings: dict[str, Any] | None = self.stages.get(stage, {}).get("settings")
        return settings

    def _write(self) -> None:
        write_json(self._run.manifest, {"schema": SCHEMA, "frozen": self.frozen, "stages": self.stages})


@dataclass(frozen=True, slots=True)
class _Clock:
    record: StageRecord
    began: float


def package_versions() -> dict[str, str]:
    """The installed version of every package that a result may depend on."""
    versions = {}
    for name in RECORDED_PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "missing"
    return versions


def _plain(inputs: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(inputs))
    return plain


def _as_dict(record: StageRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in StageRecord.__slots__}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
