"""Drops labels that too few of the samples, label orders or teachers named.

Of one teacher asked several times it is the share of its answers; of several teachers the share of those that answered.
A row that was answered only once is kept: nothing disagreed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mlxdistill.filters.candidate import Candidate
from mlxdistill.store import Decision

NAME = "agreement"
_ROUNDING = 1e-6  # the store keeps shares of votes as numbers: 2 of 3 is no less than 0.6667


@dataclass(frozen=True, slots=True)
class Agreement:
    """Keeps labels that at least this share (`least`) of the answers named."""

    least: float

    def __call__(self, candidates: Iterable[Candidate]) -> Iterator[Decision]:
        for candidate in candidates:
            share = candidate.answer.agreement if candidate.answer else None
            if share is None:
                yield Decision(candidate.row.id, NAME, True, "answered once only")
                continue
            kept = share >= self.least - _ROUNDING
            reason = f"named by {'at least' if kept else 'fewer than'} {self.least:.3g} of the answers"
            yield Decision(candidate.row.id, NAME, kept, reason, share)
