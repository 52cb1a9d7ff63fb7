"""Drops rows that a budget has left out: which rows teach must not depend on what was labelled before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mlxdistill.filters.candidate import Candidate
from mlxdistill.store import Decision

NAME = "budget"


@dataclass(frozen=True, slots=True)
class InBudget:
    """`ids`: the rows that `label --budget` chose; `beside`: those a teacher wrote, which no budget is about."""

    ids: frozenset[str]
    beside: frozenset[str] = frozenset()

    def __call__(self, candidates: Iterable[Candidate]) -> Iterator[Decision]:
        left_out = f"not labelled: outside the budget of {len(self.ids):,} rows"
        for candidate in candidates:
            if candidate.row.id in self.beside:
                yield Decision(candidate.row.id, NAME, True, "written beside the budget")
                continue
            kept = candidate.row.id in self.ids
            yield Decision(candidate.row.id, NAME, kept, "chosen within the budget" if kept else left_out)
