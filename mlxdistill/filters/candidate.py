"""What a filter sees and what it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from mlxdistill.store import Decision
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row of the pool with the answer that it would teach, or None where there is none.

    Attributes:
        by_person: whether a person gave the answer. Filters about labels never drop such a row (`is_about_labels`).
    """

    row: Row
    answer: Answer | None
    by_person: bool = False


# The beginnings of the names of filters that ask how good a label is, not what the row is.
ABOUT_LABELS = (
    "answered",
    "budget",
    "min_confidence",
    "margin",
    "min_margin",
    "agreement",
    "noise",
    "dynamics",
    "judge",
)
BY_PERSON = "a person's label"


def is_about_labels(name: str) -> bool:
    """Whether the filter of this name asks how good a label is, so that a person's label needs no asking."""
    return name.startswith(ABOUT_LABELS)


Filter = Callable[[Iterable[Candidate]], Iterator[Decision]]
"""Decides about every candidate it is given, in their order; invents and leaves out none."""
