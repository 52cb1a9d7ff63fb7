"""Drops labels the teacher itself is not sure of.

A recorded answer without probabilities says nothing about its confidence, and is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mlxdistill.filters.candidate import Candidate
from mlxdistill.store import Decision

NAME = "min_confidence"


@dataclass(frozen=True, slots=True)
class Confidence:
    """Keeps answers whose largest class probability is at least `least`."""

    least: float

    def __call__(self, candidates: Iterable[Candidate]) -> Iterator[Decision]:
        for candidate in candidates:
            probabilities = candidate.answer.probabilities if candidate.answer else None
            if probabilities is None:
                yield Decision(candidate.row.id, NAME, True, "the answer has no probabilities")
                continue
            top = max(probabilities)
            kept = top >= self.least
            yield Decision(
                candidate.row.id, NAME, kept, f"confidence {'at least' if kept else 'under'} {self.least:g}", top
            )
