"""Keeps at most so many rows of each class.

Which ones is drawn by chance, by a hash of the row's id and the seed: neither the order of the file nor other rows
coming or going decide about a row's rank. Rows that a person labelled come first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mlxdistill.filters.candidate import Candidate
from mlxdistill.store import Decision
from mlxdistill.tasks.rows import content_hash

NAME = "most_per_class"


@dataclass(frozen=True, slots=True)
class ClassCap:
    """`most`: rows of one class; `seed`: of the draw."""

    most: int
    seed: int

    def __call__(self, candidates: Iterable[Candidate]) -> Iterator[Decision]:
        listed = list(candidates)
        drawn: dict[str | None, int] = {}
        kept: set[str] = set()
        for candidate in sorted(listed, key=self._rank):
            label = candidate.answer.label if candidate.answer else None
            drawn[label] = drawn.get(label, 0) + 1
            if drawn[label] <= self.most:
                kept.add(candidate.row.id)
        for candidate in listed:
            if candidate.row.id in kept:
                yield Decision(candidate.row.id, NAME, True, "within the cap of its class")
            else:
                reason = f"its class has {self.most:,} rows without it"
                yield Decision(candidate.row.id, NAME, False, reason)

    def _rank(self, candidate: Candidate) -> tuple[bool, str]:
        return not candidate.by_person, content_hash(f"{self.seed}:{candidate.row.id}")
