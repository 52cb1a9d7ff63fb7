"""Everything that was ever run, from the manifests: what there is, what runs differ in, and whose student is better.

Two students are compared row by row, on the rows of a test set that both runs hold with the same text and the same
gold. Runs that froze other test rows cannot be compared, and runs of other labels even less: nothing is said of them
rather than something wrong.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxdistill.config.load import load_config
from mlxdistill.errors import DataError, MlxDistillError, UsageError
from mlxdistill.evaluation.comparisons import compare
from mlxdistill.evaluation.evaluate import checked_metrics
from mlxdistill.evaluation.measure import reference_labels
from mlxdistill.evaluation.records import Record, by_system_and_set, read_records
from mlxdistill.evaluation.samples import make_pair
from mlxdistill.evaluation.scores import Resampling
from mlxdistill.experiments.derived import OWN, SHARED
from mlxdistill.pipeline import STAGES
from mlxdistill.rundir.files import os_errors, read_json
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.lock import locked
from mlxdistill.rundir.manifest import Manifest
from mlxdistill.statistics.multiple import holm
from mlxdistill.tasks.rows import content_hash, iter_rows

STUDENT = "student"
METRICS = {"gold": "accuracy", "person": "accuracy", "teacher": "agreement"}


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a list of runs says of one.

    Attributes:
        path: the run folder.
        started: of its first stage, ISO 8601; None where nothing has run.
        state: `finished`, or the last finished stage, and the one that began and did not finish, if any.
        teachers, student: the models, as configured.
        rows: rows the student learned from.
        scores: set -> the student's score as metrics.json has it (accuracy; without gold, agreement).
        verdict: of the replacement; None where there is none.
        bytes: on the disk.
        damage: why the folder could not be read; all else but path and bytes is then empty.
    """

    path: str
    started: str | None
    state: str
    teachers: tuple[str, ...]
    student: str | None
    rows: int | None
    scores: Mapping[str, Mapping[str, Any] | None]
    verdict: str | None
    bytes: int
    damage: str | None = None


def find_runs(folder: Path) -> Iterator[RunDir]:
    """The runs in a folder, and those derived from them, by name. Raises MlxDistillError where it cannot be read."""
    if not folder.is_dir():
        raise DataError("no such folder", where=str(folder), hint="runs are kept in runs/ where `run` was called")
    with os_errors(folder):
        inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    for path in inside:
        run = RunDir(path)
        if is_run(run):
            yield run
            if (path / "children").is_dir():
                yield from find_runs(path / "children")


def is_run(run: RunDir) -> bool:
    return run.manifest.is_file() and run.lock.exists()


def run_facts(run: RunDir) -> RunFacts:
    """What can be told of a run; what cannot be read is said, and stops no list of others."""
    size = _bytes(run.path)
    try:
        manifest = Manifest(run)
        config = load_config(run.config, environment={}).config
        finished = [name for name, record in manifest.stages.items() if record.get("finished")]
        begun = [name for name, record in manifest.stages.items() if not record.get("finished")]
        metrics = read_json(run.metrics) if "eval" in finished and run.metrics.exists() else None
        scores = _scores(metrics) if metrics else {}
        verdict = (metrics.get("replacement") or {}).get("verdict") if metrics else None
    except (MlxDistillError, KeyError, TypeError, AttributeError) as error:
        reason = error.message if isinstance(error, MlxDistillError) else "its files are of another version"
        return RunFacts(str(run.path), None, "", (), None, None, {}, None, size, reason)
    order = [stage.name for stage in STAGES]
    wanted = OWN if run.path.parent.name == "children" else order
    done = "finished" if set(wanted) <= set(finished) else max(finished, key=order.index, default="")
    state = ", ".join(filter(None, [done, *(f"{name} unfinished" for name in sorted(begun, key=order.index))]))
    taken_over = SHARED if run.path.parent.name == "children" else ()
    own = [record["started"] for name, record in manifest.stages.items() if name not in taken_over]
    started = min(own, default=None)
    teachers = tuple(each.model or ", ".join(each.log or ()) for each in config.teachers.values())
    rows = manifest.figures("train").get("rows_train")
    return RunFacts(str(run.path), started, state, teachers, config.student.model, rows, scores, verdict, size)


def _scores(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any] | None]:
    name = METRICS[metrics["reference"]]
    return {of: (entry or {}).get(name) for of, entry in metrics["systems"][STUDENT]["sets"].items()}


def compare_runs(first: RunDir, second: RunDir) -> dict[str, Any]:
    """What two runs differ in, and the student of the first against that of the second.

    Returns `settings`: key path -> [first, second] where they differ; `comparisons`: one a test set as in metrics.json,
    with `p_holm` beside `p_value`, or a `reason` where the sets hold no row in common.

    Raises DataError where one is no finished run or was edited, UsageError where their labels or references differ.
    """
    for run in (first, second):
        if not is_run(run):
            raise DataError("no run folder", where=str(run.path), hint="`mlxdistill runs list` names them")
        if not run.metrics.exists():
            raise DataError("this run has no evaluation yet", where=str(run.path), hint="mlxdistill run CONFIG")
    metrics = [checked_metrics(run) for run in (first, second)]
    for name, what in (("task", "tasks"), ("labels", "labels"), ("reference", "references")):
        if metrics[0][name] != metrics[1][name]:
            raise UsageError(
                f"runs with other {what} cannot be compared: {_short(metrics[0][name])} and {_short(metrics[1][name])}",
                where=f"{first.path}, {second.path}",
                hint="compare runs of one task on the same test rows",
            )
    resampling = Resampling(metrics[0]["settings"]["resamples"], metrics[0]["settings"]["seed"])
    entries = list(_comparisons(first, second, metrics[0], resampling))
    known = [entry for entry in entries if entry.get("p_value") is not None]
    for entry, p_value in zip(known, holm([entry["p_value"] for entry in known]), strict=True):
        entry["p_holm"] = p_value
    return {
        "a": str(first.path),
        "b": str(second.path),
        "settings": _differences(first, second),
        "comparisons": entries,
    }


def _comparisons(
    first: RunDir, second: RunDir, metrics: Mapping[str, Any], resampling: Resampling
) -> Iterator[dict[str, Any]]:
    found = [by_system_and_set(read_records(run.predictions)) for run in (first, second)]
    reference, labels = metrics["reference"], metrics["labels"]
    for name in metrics["sets"]:
        texts = [_texts(run.test_sets[name]) for run in (first, second)]
        rights = [reference_labels(records, reference).get(name, {}) for records in found]
        same = {
            row_id
            for row_id, digest in texts[0].items()
            if texts[1].get(row_id) == digest and rights[0].get(row_id) == rights[1].get(row_id)
        }
        mine, other = ({row: each for row, each in _of(records, name).items() if row in same} for records in found)
        pair = make_pair(mine, other, rights[0], labels)
        entry = compare(str(first.path), str(second.path), name, METRICS[reference], pair, len(texts[0]), resampling)
        if not entry["n"]:
            entry["reason"] = "the two runs have no test row in common"
        yield entry


def _of(records: Mapping[tuple[str, str], Mapping[str, Record]], name: str) -> Mapping[str, Record]:
    return records.get((STUDENT, name), {})


def _texts(path: Path) -> dict[str, str]:
    return {row.id: content_hash(row.text) for row in iter_rows(path)} if path.exists() else {}


def _differences(first: RunDir, second: RunDir) -> dict[str, list[Any]]:
    before, after = (
        flat(load_config(run.config, environment={}).config.model_dump(mode="json")) for run in (first, second)
    )
    keys = [*before, *(key for key in after if key not in before)]
    return {
        key: [before.get(key), after.get(key)] for key in keys if before.get(key) != after.get(key) and key != "name"
    }


def flat(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested configuration by key paths."""
    values: dict[str, Any] = {}
    for name, value in section.items():
        if isinstance(value, dict) and value:
            values |= flat(value, f"{prefix}{name}.")
        else:
            values[prefix + name] = value
    return values


def remove_run(run: RunDir) -> None:
    """Deletes a run folder with everything in it.

    Raises DataError where it is none, MlxDistillError where another process is using it or it may not be deleted.
    """
    if run.path.is_symlink() or not is_run(run):
        raise DataError("no run folder", where=str(run.path), hint="`mlxdistill runs list` names them")
    with locked(run), os_errors(run.path):
        # The manifest last but for the lock: a folder that was deleted in part is still known as a run.
        for path in sorted(run.path.iterdir(), key=lambda path: (path == run.lock, path == run.manifest)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        run.path.rmdir()


def _bytes(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        total += sum(os.lstat(os.path.join(place, name)).st_size for name in names)
    return total


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
