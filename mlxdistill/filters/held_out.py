"""Drops rows that a test set has taken out of the pool, with the rest of their groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mlxdistill.filters.candidate import Candidate
from mlxdistill.store import Decision

NAME = "held_out"


@dataclass(frozen=True, slots=True)
class HeldOut:
    """`ids` and `groups` (`meta["group"]`) of the rows that test."""

    ids: frozenset[str]
    groups: frozenset[str]

    def __call__(self, candidates: Iterable[Candidate]) -> Iterator[Decision]:
        for candidate in candidates:
            row = candidate.row
            if row.id in self.ids:
                yield Decision(row.id, NAME, False, "it is a test row")
            elif row.meta.get("group") in self.groups:
                yield Decision(row.id, NAME, False, "a test row is of its group")
            else:
                yield Decision(row.id, NAME, True, "no test row")
