"""Who said what about which test row: the lines of predictions.jsonl.

Metrics are computed from these records and from nothing else, so that whoever has the file has every number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxdistill.errors import DataError
from mlxdistill.rundir.files import read_jsonl
from mlxdistill.tasks.classification import scalar_text
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row


@dataclass(frozen=True, slots=True)
class SystemAnswers:
    """What one system answered.

    Attributes:
        answers: by set, then by row id. Rows that are absent, or whose outcome is `missing`, count as not answered.
        rows_per_second: its speed, where measured.
        peak_memory_bytes: its process's peak, where measured.
    """

    answers: Mapping[str, Mapping[str, Answer]]
    rows_per_second: float | None = None
    peak_memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A line of predictions.jsonl: one answered row of one set by one system.

    Attributes:
        prediction: the label, or None for an answer that names none.
        probabilities: in the task's order of labels, or None.
        gold: None where nobody has labelled the row; `correct` is None then too.
        group: the row's `meta["group"]`, if it has one.
        gold_by: `person` where the gold is a label by a person (`meta["gold_by"]`), None where the source had it.
        disputed: a person's label (`meta["disputed"]`), where it is another than the gold; the gold counts.
    """

    id: str
    set: str
    system: str
    prediction: str | None
    probabilities: tuple[float, ...] | None
    gold: str | None
    group: str | None = None
    gold_by: str | None = None
    disputed: str | None = None

    @property
    def correct(self) -> bool | None:
        return None if self.gold is None else self.prediction == self.gold

    def to_json(self) -> dict[str, Any]:
        line: dict[str, Any] = {
            "id": self.id,
            "set": self.set,
            "system": self.system,
            "prediction": self.prediction,
            "probabilities": None if self.probabilities is None else list(self.probabilities),
            "gold": self.gold,
            "correct": self.correct,
        }
        rarely = {"group": self.group, "gold_by": self.gold_by, "disputed": self.disputed}
        return {**line, **{name: value for name, value in rarely.items() if value is not None}}


def check_sets(sets: Mapping[str, Sequence[Row]], labels: Sequence[str]) -> None:
    """Raises DataError for an id that a set holds twice, and for a gold label the task does not have."""
    for name, rows in sets.items():
        seen: set[str] = set()
        for row in rows:
            where = f"{name}, row {row.id}"
            if row.id in seen:
                raise DataError(
                    "the id is there twice", where=where, hint="give every row of a test set an id of its own"
                )
            if row.gold is not None and row.gold not in labels:
                raise DataError(
                    f"the gold label {row.gold!r} is not a label of the task",
                    where=where,
                    hint="add it to task.labels, or say in data.gold_values which label it means",
                )
            seen.add(row.id)


def make_records(
    sets: Mapping[str, Sequence[Row]], systems: Mapping[str, SystemAnswers], labels: Sequence[str]
) -> list[Record]:
    """One record for each answered row, by system, set and the rows' order.

    Raises DataError where an answer names a label the task does not have, or has no probability for each label.
    """
    return [
        _record(name, set_name, row, answer, labels)
        for name, system in systems.items()
        for set_name, rows in sets.items()
        for row in rows
        if (answer := system.answers.get(set_name, {}).get(row.id)) is not None and answer.outcome != "missing"
    ]


def _record(system: str, set_name: str, row: Row, answer: Answer, labels: Sequence[str]) -> Record:
    where = f"{set_name}, row {row.id}, {system}"
    hint = "the answers were made for another list of labels; label the rows again"
    if answer.label is not None and answer.label not in labels:
        raise DataError(f"the answer {answer.label!r} is not a label of the task", where=where, hint=hint)
    probabilities = None
    if answer.probabilities is not None:
        probabilities = tuple(float(share) for share in answer.probabilities)
        if len(probabilities) != len(labels):
            raise DataError(
                f"{len(probabilities)} class probabilities for {len(labels)} labels", where=where, hint=hint
            )
        if not all(math.isfinite(share) for share in probabilities):
            raise DataError("a class probability is not a number", where=where, hint="label the row again")
    group = row.meta.get("group")
    return Record(
        id=row.id,
        set=set_name,
        system=system,
        prediction=answer.label,
        probabilities=probabilities,
        gold=row.gold,
        group=None if group is None else scalar_text(group),
        gold_by=row.meta.get("gold_by"),
        disputed=row.meta.get("disputed"),
    )


def read_records(path: Path) -> list[Record]:
    """The records of a predictions.jsonl. Raises DataError where it is missing, edited or cut."""
    return [_from_json(line, f"{path}:{number}") for number, line in enumerate(read_jsonl(path), start=1)]


def _from_json(line: Mapping[str, Any], where: str) -> Record:
    try:
        probabilities = line["probabilities"]
        return Record(
            id=line["id"],
            set=line["set"],
            system=line["system"],
            prediction=line["prediction"],
            probabilities=None if probabilities is None else tuple(probabilities),
            gold=line["gold"],
            group=line.get("group"),
            gold_by=line.get("gold_by"),
            disputed=line.get("disputed"),
        )
    except (KeyError, TypeError, AttributeError) as error:
        hint = "the file was edited or is of another version; run mlxdistill eval again"
        raise DataError("not a prediction", where=where, hint=hint) from error


def by_system_and_set(records: Iterable[Record]) -> dict[tuple[str, str], dict[str, Record]]:
    """The records by (system, set), then by row id."""
    found: dict[tuple[str, str], dict[str, Record]] = {}
    for record in records:
        found.setdefault((record.system, record.set), {})[record.id] = record
    return found
