"""Drops the labels that a judge graded worst.

The judge is a model that was asked how right the proposed label of each text is, on a scale from 1 (surely wrong) to 5
(surely right). Nothing here knows the model: the filter is handed a function that has labels graded. It may also be
handed the reason why the judge is not to be believed; then nothing is graded, and every row is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlxdistill.config.filter import JudgeConfig
from mlxdistill.filters.candidate import Candidate
from mlxdistill.store import Decision
from mlxdistill.tasks.rows import content_hash

NAME = "judge"


@dataclass(frozen=True, slots=True)
class Graded:
    """A row's proposed label and its grade, 1 to 5."""

    row_id: str
    label: str
    grade: float


def worst(graded: Iterable[Graded], limit: JudgeConfig, seed: int) -> dict[str, str]:
    """Row id -> why its label is not believed. Of equal grades a hash of id and seed decides."""
    listed = list(graded)
    if limit.least is not None:
        reason = f"graded under {limit.least:g}"
        return {each.row_id: reason for each in listed if each.grade < limit.least}
    of_what = "its class" if limit.per_class else "all rows"
    reason = f"among the worst graded {100 * limit.drop:g} % of {of_what}"
    classes: dict[str, list[Graded]] = {}
    for each in listed:
        classes.setdefault(each.label if limit.per_class else "", []).append(each)
    found = {}
    for members in classes.values():
        members.sort(key=lambda each: (each.grade, content_hash(f"{seed}:{each.row_id}")))
        found.update(dict.fromkeys((each.row_id for each in members[: math.floor(limit.drop * len(members))]), reason))
    return found


@dataclass(frozen=True, slots=True)
class Judge:
    """Keeps what is not among the worst.

    Attributes:
        grades: for candidates that have a label, row id -> grade.
        unused: why the judge is not believed; None where it is.
    """

    limit: JudgeConfig
    seed: int
    grades: Callable[[Sequence[Candidate]], Mapping[str, float]]
    unused: str | None = None

    def __call__(self, candidates: Iterable[Candidate]) -> Iterator[Decision]:
        listed = list(candidates)
        if self.unused is not None:
            yield from (Decision(each.row.id, NAME, True, f"the judge is not used: {self.unused}") for each in listed)
            return
        asked = {each.row.id: each for each in listed if not each.by_person and each.answer and each.answer.label}
        grades = self.grades(list(asked.values()))
        dropped = worst((_graded(asked[row_id], grade) for row_id, grade in grades.items()), self.limit, self.seed)
        for each in listed:
            row_id = each.row.id
            if row_id not in grades:
                yield Decision(row_id, NAME, True, "not graded")
            else:
                reason = dropped.get(row_id, "graded well enough")
                yield Decision(row_id, NAME, row_id not in dropped, reason, grades[row_id])


def _graded(candidate: Candidate, grade: float) -> Graded:
    assert candidate.answer is not None
    assert candidate.answer.label is not None
    return Graded(candidate.row.id, candidate.answer.label, grade)
