"""What one filter decided about one row, and how it is kept in the table `decisions`."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

DECISION_COLUMNS = "row_id, filter, kept, reason, score, weight, label, probabilities"
INSERT_DECISION = f"INSERT INTO decisions (filtering, {DECISION_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Decision:
    """A row kept or dropped, and why; or kept and treated.

    Attributes:
        score: what the filter measured, on a scale of its own.
        weight: how much a kept row counts in training; None: as any other.
        label, probabilities: what it teaches in the place of the answer's; None: what the answer says. Probabilities
            are in the order of the task's labels.
    """

    row_id: str
    filter: str
    kept: bool
    reason: str
    score: float | None = None
    weight: float | None = None
    label: str | None = None
    probabilities: tuple[float, ...] | None = None

    @property
    def is_treatment(self) -> bool:
        """Whether the row teaches, but something other than its answer, or less than another."""
        return self.kept and (self.weight, self.label, self.probabilities) != (None, None, None)


def to_record(decision: Decision) -> tuple[Any, ...]:
    """The values of `DECISION_COLUMNS`."""
    shares = decision.probabilities
    return (
        *(decision.row_id, decision.filter, decision.kept, decision.reason, decision.score),
        *(decision.weight, decision.label, None if shares is None else struct.pack(f"<{len(shares)}f", *shares)),
    )


def to_decision(record: Sequence[Any]) -> Decision:
    """The decision in a record of `DECISION_COLUMNS`."""
    row_id, name, kept, reason, score, weight, label, blob = record
    shares = None if blob is None else struct.unpack(f"<{len(blob) // 4}f", blob)
    return Decision(row_id, name, bool(kept), reason, score, weight, label, shares)
