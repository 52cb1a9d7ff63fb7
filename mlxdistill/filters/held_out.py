"""Drops rows that a test set has taken out of the pool, with the rest of their groups, their near duplicates, what was
written from them and, where splits go by date, what was written after them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mlxdistill.filters.candidate import Candidate
from mlxdistill.store import Decision

NAME = "held_out"


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What may not teach.

    Attributes:
        ids, groups, components: of the rows that test (`meta["group"]`, `meta["component"]`).
        tainted: ids of the synthetic rows that were written from a row that tests or validates, or read like one.
        until: the `meta["time"]` of the earliest row that tests.
    """

    ids: frozenset[str]
    groups: frozenset[str]
    tainted: frozenset[str] = frozenset()
    components: frozenset[str] = frozenset()
    until: str | None = None

    def __call__(self, candidates: Iterable[Candidate]) -> Iterator[Decision]:
        for candidate in candidates:
            row = candidate.row
            if row.id in self.ids:
                yield Decision(row.id, NAME, False, "it is a test row")
            elif row.id in self.tainted:
                yield Decision(row.id, NAME, False, "it was written from a test or validation row, or reads like one")
            elif row.meta.get("group") in self.groups:
                yield Decision(row.id, NAME, False, "a test row is of its group")
            elif row.meta.get("component") in self.components:
                yield Decision(row.id, NAME, False, "it is a near duplicate of a test row, itself or through others")
            elif self.until is not None and row.meta.get("time", "") >= self.until:
                yield Decision(row.id, NAME, False, "it was not written before the test rows")
            else:
                yield Decision(row.id, NAME, True, "no test row")
