"""Where a training stands, as a checkpoint keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlxdistill.student.requests import LossEvent, TrainEvent


@dataclass(slots=True)
class TrainState:
    """Attributes:
    batch_size: rows per step, as configured or found at the start.
    step: optimizer steps done; with the seed it is the data cursor.
    loss_sum, weight_sum: since the last validation; `recent_loss_sum`, `recent_weight_sum`: since the last of `losses`.
    bad_in_a_row: non-finite steps; `worse_in_a_row`: validations without a better loss.
    rows, tokens, step_seconds: trained so far; `seconds`: validation and checkpoints included.
    """

    step: int = 0
    batch_size: int = 0
    loss_sum: float = 0.0
    weight_sum: float = 0.0
    recent_loss_sum: float = 0.0
    recent_weight_sum: float = 0.0
    gradient_norm: float | None = None
    skipped: int = 0
    bad_in_a_row: int = 0
    best_step: int = 0
    best_loss: float | None = None
    worse_in_a_row: int = 0
    finished: bool = False
    stopped_early: bool = False
    rows: int = 0
    tokens: int = 0
    step_seconds: float = 0.0
    seconds: float = 0.0
    history: list[TrainEvent] = field(default_factory=list)
    losses: list[LossEvent] = field(default_factory=list)

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> TrainState:
        history = [TrainEvent(**event) for event in saved["history"]]
        losses = [LossEvent(**event) for event in saved.get("losses", ())]
        return cls(**{**saved, "history": history, "losses": losses})

    def count_loss(self, loss: float, weight: float) -> None:
        """Takes a finite step's mean loss, and the weight it is the mean of, into the sums."""
        self.loss_sum += loss * weight
        self.weight_sum += weight
        self.recent_loss_sum += loss * weight
        self.recent_weight_sum += weight
