"""Drops texts too short or too long to teach from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mlxdistill.filters.candidate import Candidate
from mlxdistill.store import Decision

NAME = "length"


@dataclass(frozen=True, slots=True)
class Length:
    """Limits in characters of the stripped text; None is no limit."""

    least: int | None
    most: int | None

    def __call__(self, candidates: Iterable[Candidate]) -> Iterator[Decision]:
        for candidate in candidates:
            characters = len(candidate.row.text.strip())
            reason, kept = "within the limits", True
            if self.least is not None and characters < self.least:
                reason, kept = f"shorter than {self.least} characters", False
            elif self.most is not None and characters > self.most:
                reason, kept = f"longer than {self.most} characters", False
            yield Decision(candidate.row.id, NAME, kept, reason, float(characters))
