"""What a training says of itself to its parent, which writes it down.

A report is sent when a checkpoint holds it, so nothing that was written down ever has to be taken back; and each time
the command is run all earlier ones are sent first, because a training may have been killed between saving and sending.
Whoever writes them down knows each by its training and step.
"""

from __future__ import annotations

from typing import Any, Protocol

from mlxdistill.student.requests import LossEvent, TrainEvent, TrainReport, TrainStart
from mlxdistill.student.state import TrainState
from mlxdistill.workers.channel import StopRequested

MOST_LOSSES = 200


class Line(Protocol):
    """The loop's end of the pipe."""

    def send(self, payload: Any) -> None: ...


class Reports:
    """The reports of one training of `total` steps, of which about `MOST_LOSSES` say the training loss."""

    def __init__(self, line: Line, total: int, per_epoch: int) -> None:
        self._line = line
        self._total = total
        self._per_epoch = per_epoch
        self._every = -(-total // MOST_LOSSES)
        self._unsent: list[TrainReport] = []

    def begin(self, start: TrainStart, state: TrainState) -> None:
        """Says where the training stands, and everything it has said before."""
        earlier: list[LossEvent | TrainEvent] = [*state.losses, *state.history]
        self._unsent = [start, *sorted(earlier, key=lambda report: report.step)]
        self.send()

    def after_step(self, state: TrainState, learning_rate: float) -> None:
        """Takes a report of the training loss down, where it is time for one."""
        import mlx.core as mx

        if state.step % self._every and state.step < self._total:
            return
        event = LossEvent(
            step=state.step,
            epoch=state.step / self._per_epoch,
            loss=state.recent_loss_sum / state.recent_weight_sum if state.recent_weight_sum else None,
            learning_rate=learning_rate,
            gradient_norm=state.gradient_norm,
            tokens_per_second=state.tokens / state.step_seconds,
            peak_memory_bytes=mx.get_peak_memory(),
        )
        state.recent_loss_sum = state.recent_weight_sum = 0.0
        state.losses.append(event)
        self._unsent.append(event)

    def add(self, event: TrainEvent) -> None:
        """Takes a validation down."""
        self._unsent.append(event)

    def send(self) -> None:
        """Hands over what was taken down since the last time; to be called when a checkpoint holds it."""
        try:
            while self._unsent:
                self._line.send(self._unsent.pop(0))
        except StopRequested:
            return  # the loop decides when to stop; what is left is sent when the training goes on
