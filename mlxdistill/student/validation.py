"""The loss and accuracy that choose the best adapter and stop a training early."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlxdistill.student.batches import even_batches
from mlxdistill.student.continuation import RecordedLayer
from mlxdistill.student.encoding import EncodedRow
from mlxdistill.student.head import SupervisedHead
from mlxdistill.student.losses import arrays, position_losses
from mlxdistill.student.parallel import Company
from mlxdistill.student.prefix import SharedPrefix, go_on
from mlxdistill.student.targets import TargetBatch, TargetBuilder

BATCH_TOKENS = 4096
MOST_ROWS = 32


@dataclass(frozen=True, slots=True)
class Validation:
    """`loss`: the mean per supervised position, weighted as in training. `accuracy`: as in `TrainEvent`."""

    loss: float
    accuracy: float | None


class Validator:
    """Measures the model on the validation rows, each rank on its share of them."""

    def __init__(
        self,
        head: SupervisedHead,
        prefix: SharedPrefix,
        rows: Sequence[EncodedRow],
        builder: TargetBuilder,
        company: Company,
        *,
        batch_tokens: int | None,
        multiple: int,
    ) -> None:
        self._head = head
        self._prefix = prefix
        self._company = company
        self._rows = len(rows)
        self._labelled = sum(row.label is not None for row in rows)
        rows = company.share(rows)
        lengths = [len(row.tokens) - 1 - prefix.tokens for row in rows]
        most = min(BATCH_TOKENS, batch_tokens or BATCH_TOKENS)
        self._batches = [builder.build(rows, batch) for batch in even_batches(lengths, most, MOST_ROWS, multiple)]

    def measure(self) -> Validation | None:
        """None without validation rows."""
        if not self._rows:
            return None
        losses, weights, right = [], 0.0, 0
        before = self._prefix.run()
        for batch in self._batches:
            loss, correct = self._measure(batch, before)
            losses.append(loss)
            weights += float(batch.weights.sum())
            right += correct
        _, total = self._company.sum({}, {"loss": math.fsum(losses), "weights": weights, "right": right})
        accuracy = total["right"] / self._labelled if self._labelled else None
        return Validation(total["loss"] / total["weights"], accuracy)

    def _measure(self, batch: TargetBatch, before: list[RecordedLayer] | None) -> tuple[float, int]:
        import mlx.core as mx

        given = arrays(batch)
        logits = self._head(given.inputs, given.positions, go_on(before))
        loss = mx.sum(position_losses(logits, given.tokens, given.target) * given.weights)
        chosen = mx.take_along_axis(logits, given.tokens, axis=-1)
        mx.eval(loss, chosen)
        return float(np.array(loss)), _right_rows(batch, chosen) if self._labelled else 0


def _right_rows(batch: TargetBatch, chosen: Any) -> int:
    """How many rows have the hard label's branch as the likeliest at every node of their path."""
    scores = np.array(chosen)
    scores[np.arange(scores.shape[1]) >= batch.branches[:, None]] = -np.inf
    wrong = batch.row_of[(scores.argmax(axis=1) != batch.hard) & (batch.weights > 0)]
    return len(batch.inputs) - len(set(wrong.tolist()))
