"""From answers to metrics.json and predictions.jsonl.

The only way to a number is through the records of predictions.jsonl: `evaluate` makes them from the answers and
measures them, `recompute` reads them back and measures again, and `checked_metrics` holds the two against each other.
Only speed and memory are carried along, and how many rows of a set no system answered, for these have no record.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlxdistill.errors import DataError
from mlxdistill.evaluation.measure import PERSON, TEACHER, measure, set_sizes
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

    The reference is gold wherever a test row has any (`person` where people alone have given it); without, it is the
    teacher, and only agreement with it is given.

    Args:
        sets: the test rows, by the set's name.
        systems: the answers, by the system's name (`teacher`, `student`, `student_base`, `majority`, ...).
        labels: the task's label names, in the order of all class probabilities.
        config: margin, number of resamples, seed.

    Raises DataError for an id twice in a set, a label the task does not have, and sets that nobody labelled.
    """
    check_sets(sets, labels)
    records = make_records(sets, systems, labels)
    golden = [row for rows in sets.values() for row in rows if row.gold is not None]
    if not golden and TEACHER not in systems and any(sets.values()):
        raise DataError("no test row has gold and there is no teacher to compare with", hint="set data.fields.gold")
    by_people = bool(golden) and all(row.meta.get("gold_by") == PERSON for row in golden)
    kind = PERSON if by_people else "gold" if golden or TEACHER not in systems else TEACHER
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
    sizes = set_sizes(found, sets, labels, kind)
    answered = {(record.set, record.id) for record in records}
    for name, rows in sets.items():
        unanswered = sum((name, row.id) not in answered for row in rows)
        sizes[name] |= {"unanswered": unanswered} if unanswered else {}
    return Evaluation(measure(found, header, sizes, speeds), tuple(records))


def write_evaluation(run: RunDir, evaluation: Evaluation) -> None:
    """Writes predictions.jsonl, then metrics.json: who finds metrics finds what they were computed from."""
    write_jsonl(run.predictions, (record.to_json() for record in evaluation.records))
    write_json(run.metrics, evaluation.metrics)


def recompute(run: RunDir) -> dict[str, Any]:
    """metrics.json computed again from predictions.jsonl; equal to the file unless one of the two was changed.

    Labels, settings, the sets' names, speed and memory are taken from metrics.json. Raises DataError where a file is
    missing or damaged.
    """
    return _recomputed(run, read_json(run.metrics))


def checked_metrics(run: RunDir) -> dict[str, Any]:
    """metrics.json as written, once every number in it has been found to follow from predictions.jsonl.

    Raises DataError for the first that does not, and where a file is missing or damaged.
    """
    written = read_json(run.metrics)
    wrong = _first_difference(_recomputed(run, written), written, "")
    if wrong is not None:
        raise DataError(
            f"{wrong}; the file was edited, or written by another version",
            where=str(run.metrics),
            hint=f"delete the folder {run.metrics.parent}, then mlxdistill run CONFIG evaluates again",
        )
    return dict(written)


def _recomputed(run: RunDir, written: Any) -> dict[str, Any]:
    read = read_records(run.predictions)
    records = by_system_and_set(read)
    hint = "the file was edited or is of another version; run mlxdistill eval again"
    try:
        header = {name: written[name] for name in ("schema", "task", "labels", "reference", "settings")}
        speeds = {
            name: {key: system[key] for key in ("rows_per_second", "peak_memory_bytes")}
            for name, system in written["systems"].items()
        }
        unanswered = {name: size["unanswered"] for name, size in written["sets"].items() if "unanswered" in size}
        names = dict.fromkeys([*written["sets"], *(name for _, name in records)])
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError("not a metrics file of this version", where=str(run.metrics), hint=hint) from error
    strange = {label for record in read for label in (record.gold, record.prediction)} - {*header["labels"], None}
    if strange:
        message = f"{min(map(str, strange))!r} is not a label of the task"
        raise DataError(message, where=str(run.predictions), hint=hint)
    sizes = set_sizes(records, names, header["labels"], header["reference"])
    for name, count in unanswered.items():
        sizes[name]["unanswered"] = count
    for system, _ in records:
        speeds.setdefault(system, {"rows_per_second": None, "peak_memory_bytes": None})
    return measure(records, header, sizes, speeds)


def _first_difference(found: Any, written: Any, place: str) -> str | None:
    """The first value, in the order of the file, that differs by more than the arithmetic of two machines."""
    parts: list[tuple[str, Any, Any]] = []
    if isinstance(found, dict) and isinstance(written, dict):
        names = [*found, *(name for name in written if name not in found)]
        parts = [(f".{name}", found.get(name, _ABSENT), written.get(name, _ABSENT)) for name in names]
    elif isinstance(found, list) and isinstance(written, list) and len(found) == len(written):
        parts = [(f"[{index}]", *both) for index, both in enumerate(zip(found, written, strict=True))]
    elif found != written and not _as_close(found, written):
        return f"{place.lstrip('.')} is {_shown(written)}, and predictions.jsonl gives {_shown(found)}"
    differences = (_first_difference(inner, there, place + name) for name, inner, there in parts)
    return next(filter(None, differences), None)


def _as_close(found: Any, written: Any) -> bool:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (found, written))
    return numbers and math.isclose(found, written, rel_tol=1e-9, abs_tol=1e-9)


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    return "entries" if isinstance(value, dict | list) else json.dumps(value, ensure_ascii=False)


_ABSENT = object()
