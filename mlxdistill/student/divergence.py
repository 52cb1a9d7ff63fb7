"""The end of a training whose losses are no numbers any more.

What it had learned before is worth keeping: the adapter of its best validation is written beside the place of a
finished one, so that a finished one of an earlier training stays, and this one stays until another training has
finished.
"""

from __future__ import annotations

from pathlib import Path

from mlxdistill.errors import MlxDistillError
from mlxdistill.student.requests import TrainRequest
from mlxdistill.student.state import TrainState


class NotFinite(Exception):
    """Nothing more can be learned with these settings: the same command would come to the same end."""


def diverged(request: TrainRequest, state: TrainState, reason: str, *, kept: bool) -> MlxDistillError:
    """What to tell the user.

    Args:
        reason: what was seen.
        kept: whether there is an adapter in `unfinished_folder`.
    """
    after = "; nothing had been learned before"
    if kept:
        loss = "" if state.best_loss is None else f", validation loss {state.best_loss:.3f}"
        after = f"; the best adapter before it (step {state.best_step}{loss}) is kept in {unfinished_folder(request)}"
    scale = "" if request.fine_tune_type == "full" else f" or student.lora.scale (now {request.lora.scale:g})"
    return MlxDistillError(
        reason + after,
        where=f"step {state.step}",
        hint=f"lower train.learning_rate (now {request.train.learning_rate:g}){scale}; training then starts anew",
    )


def unfinished_folder(request: TrainRequest) -> Path:
    return request.output.with_name(f"{request.output.name}-unfinished")
