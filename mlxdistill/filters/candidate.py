"""What a filter sees and what it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from mlxdistill.store import Decision
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row of the pool with the teacher's answer, or None where it gave none."""

    row: Row
    answer: Answer | None


Filter = Callable[[Iterable[Candidate]], Iterator[Decision]]
"""Decides about every candidate it is given, in their order; invents and leaves out none."""
