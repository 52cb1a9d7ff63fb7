"""Finds labels that are likely wrong in how an earlier student came to them.

A student that learns a wrong label learns it late, against the many rows that say otherwise, and not for good. So the
worst are those with the smallest margin of the label over the likeliest other, on average over the epochs after the
first (Pleiss et al., Identifying Mislabeled Data using the Area Under the Margin Ranking, 2020), less one for each time
that the student had it right in an epoch and wrong in the next (forgetting events: Toneva et al., 2019). In the first
epoch a row is met before it was ever learned, and its margin says nothing of its label. Only rows are named that the
student got wrong on average.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from mlxdistill.config.filter import NoiseAction
from mlxdistill.errors import DataError
from mlxdistill.filters.candidate import Candidate
from mlxdistill.filters.treatment import named_rows, treat
from mlxdistill.rundir.files import read_jsonl
from mlxdistill.store import Decision

NAME = "dynamics"
EPOCHS = 2  # the fewest of which a course says something
_AGAIN = "train once with train.record_dynamics: true and without filter.dynamics"


@dataclass(frozen=True, slots=True)
class Course:
    """Of one row: the label it was taught with, and its margin in each epoch that it was learned in."""

    label: str
    margins: tuple[float, ...]

    @property
    def forgotten(self) -> int:
        return sum(before > 0 >= after for before, after in pairwise(self.margins))

    @property
    def margin(self) -> float:
        return float(np.mean(self.margins[1:]))

    @property
    def score(self) -> float:
        return self.margin - self.forgotten


@dataclass(frozen=True, slots=True)
class Dynamics:
    """Names at most `share` of the rows in `courses`, by row id, and drops or treats them.

    Attributes:
        labels: of the task.
    """

    share: float
    action: NoiseAction
    labels: tuple[str, ...]
    courses: Mapping[str, Course]

    def __call__(self, candidates: Iterable[Candidate]) -> Iterator[Decision]:
        from scipy.special import expit

        rows = list(candidates)
        courses = [self._course(row) for row in rows]
        scores = np.array([np.nan if course is None else course.score for course in courses])
        wrong = np.array([course is not None and course.margin < 0 for course in courses], bool)
        suspect = wrong & ~np.array([row.by_person for row in rows], bool)
        taught = np.array([-1 if course is None else self.labels.index(course.label) for course in courses], np.int64)
        named = named_rows(scores, suspect, taught, self.share, per_class=self.action == "drop_per_class")
        for row, course, is_named in zip(rows, courses, named, strict=True):
            if course is None:
                yield Decision(row.row.id, NAME, True, "the training before knows nothing of it")
                continue
            decision = Decision(row.row.id, NAME, True, "learned like the others", course.score)
            if is_named:
                reason = "the student before learned it late, or not for good"
                decision = treat(replace(decision, reason=reason), self.action, trust=float(expit(course.score)))
            yield decision

    def _course(self, row: Candidate) -> Course | None:
        course = self.courses.get(row.row.id)
        known = course is not None and row.answer is not None and row.answer.label == course.label
        return course if known and course is not None and len(course.margins) >= EPOCHS else None


def read_courses(path: Path) -> dict[str, Course]:
    """What a training recorded. Raises DataError where it did not, or where the file is damaged."""
    if not path.is_file():
        raise DataError("no training of this folder has recorded its rows", where=str(path), hint=_AGAIN)
    found = {}
    for number, record in enumerate(read_jsonl(path), start=1):
        match record:
            case {"id": str(row_id), "label": str(label), "margin": list(margins)}:
                found[row_id] = Course(label, tuple(float(value) for value in margins if value is not None))
            case _:
                hint = f"remove the file, and {_AGAIN}"
                raise DataError("not a row's course in training", where=f"{path}:{number}", hint=hint)
    return found
