"""Where a training stands, as a checkpoint keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlxdistill.student.requests import TrainEvent


@dataclass(slots=True)
class TrainState:
    """Attributes:
    step: optimizer steps done; with the seed it is the data cursor.
    loss_sum, weight_sum: since the last validation.
    bad_in_a_row: non-finite steps; `worse_in_a_row`: validations without a better loss.
    rows, tokens, step_seconds: trained so far; `seconds`: validation and checkpoints included.
    """

    step: int = 0
    loss_sum: float = 0.0
    weight_sum: float = 0.0
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

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> TrainState:
        return cls(**{**saved, "history": [TrainEvent(**event) for event in saved["history"]]})
