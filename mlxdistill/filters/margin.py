"""Drops labels that the teacher nearly gave another way.

With two labels this says the same as `min_confidence`; with many, a label may be the surest by far and yet hold less
than half of the probability. A recorded answer without probabilities is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mlxdistill.filters.candidate import Candidate
from mlxdistill.store import Decision

NAME = "min_margin"


@dataclass(frozen=True, slots=True)
class Margin:
    """Keeps answers whose two most probable labels differ by at least `least`."""

    least: float

    def __call__(self, candidates: Iterable[Candidate]) -> Iterator[Decision]:
        for candidate in candidates:
            probabilities = candidate.answer.probabilities if candidate.answer else None
            if probabilities is None:
                yield Decision(candidate.row.id, NAME, True, "the answer has no probabilities")
                continue
            second, first = sorted(probabilities)[-2:]
            kept = first - second >= self.least
            reason = f"margin {'at least' if kept else 'under'} {self.least:g}"
            yield Decision(candidate.row.id, NAME, kept, reason, first - second)
