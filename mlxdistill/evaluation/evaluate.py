"""From answers to metrics.json and predictions.jsonl.

The only way to a number is through the records of predictions.jsonl: `evaluate` makes them from the answers and
measures them, `recompute` reads them back and measures again. Only speed, memory and the sizes of the sets are
carried along.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlxdistill.errors import DataError
from mlxdistill.evaluation.measure import TEACHER, measure, reference_labels
from mlxdistill.evaluation.records import (
    Record,
    SystemAnswers,
    by_system_and_set,
    check_sets,
    make_records,
    read_records,
)
from mlxdistill.rundir.files import read_json, write_json, write_jsonl
from mlxdistill.rundir.layout import RunDir
from mlxdistill.tasks.rows import Row

if TYPE_CHECKING:
    from mlxdistill.config.models import EvaluateConfig

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`metrics`: the content of metrics.json. `records`: the lines of predictions.jsonl."""

    metrics: Mapping[str, Any]
    records: tuple[Record, ...]


def evaluate(
    sets: Mapping[str, Sequence[Row]],
    systems: Mapping[str, SystemAnswers],
    labels: Sequence[str],
    config: EvaluateConfig,
) -> Evaluation:
    """Scores every system on every set. Writes nothing.

    The reference is gold wherever a test row has any; without, it is the teacher, and only agreement with it is given.

    Args:
        sets: the test rows, by the set's name.
        systems: the answers, by the system's name (`teacher`, `student`, `student_base`, `majority`, ...).
        labels: the task's label names, in the order of all class probabilities.
        config: margin, number of resamples, seed.

    Raises DataError for an id twice in a set, a label the task does not have, and sets that nobody labelled.
    """
    check_sets(sets, labels)
    records = make_records(sets, systems, labels)
    has_gold = any(row.gold is not None for rows in sets.values() for row in rows)
    if not has_gold and TEACHER not in systems and any(sets.values()):
        raise DataError("no test row has gold and there is no teacher to compare with", hint="set data.fields.gold")
    kind = "gold" if has_gold or TEACHER not in systems else "teacher"
    header = {
        "schema": SCHEMA,
        "task": "classification",
        "labels": list(labels),
        "reference": kind,
        "settings": {"margin": config.margin, "resamples": config.bootstrap, "seed": config.seed},
    }
    speeds = {
        name: {"rows_per_second": system.rows_per_second, "peak_memory_bytes": system.peak_memory_bytes}
        for name, system in systems.items()
    }
    found = by_system_and_set(records)
    reference = reference_labels(found, kind)
    sizes = {name: _size(rows, labels, kind, reference.get(name, {})) for name, rows in sets.items()}
    return Evaluation(measure(found, header, sizes, speeds), tuple(records))


def write_evaluation(run: RunDir, evaluation: Evaluation) -> None:
    """Writes predictions.jsonl, then metrics.json: who finds metrics finds what they were computed from."""
    write_jsonl(run.predictions, (record.to_json() for record in evaluation.records))
    write_json(run.metrics, evaluation.metrics)


def recompute(run: RunDir) -> dict[str, Any]:
    """metrics.json computed again from predictions.jsonl; equal to the file unless one of the two was changed.

    Labels, settings, set sizes, speed and memory are taken from metrics.json. Raises DataError where a file is missing
    or damaged.
    """
    written = read_json(run.metrics)
    try:
        header = {name: written[name] for name in ("schema", "task", "labels", "reference", "settings")}
        speeds = {
            name: {key: system[key] for key in ("rows_per_second", "peak_memory_bytes")}
            for name, system in written["systems"].items()
        }
        sets = written["sets"]
    except (KeyError, TypeError, AttributeError) as error:
        hint = "the file was edited or is of another version; run mlxdistill eval again"
        raise DataError("not a metrics file of this version", where=str(run.metrics), hint=hint) from error
    return measure(by_system_and_set(read_records(run.predictions)), header, sets, speeds)


def _size(rows: Sequence[Row], labels: Sequence[str], kind: str, teacher: Mapping[str, str]) -> dict[str, Any]:
    """The size of a set: its rows with a reference, how many of each class, and how many rows are left out."""
    right = [row.gold if kind == "gold" else teacher.get(row.id) for row in rows]
    counts = Counter(label for label in right if label is not None)
    entry: dict[str, Any] = {"n": counts.total(), "class_counts": {label: counts[label] for label in labels}}
    missing = len(rows) - counts.total()
    return entry | ({"without_gold" if kind == "gold" else "without_teacher": missing} if missing else {})
