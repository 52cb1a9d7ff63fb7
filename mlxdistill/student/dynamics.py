"""How a training came to each of its rows: the loss, and how sure the model was of the row's label, epoch by epoch.

Rows whose labels are wrong are learned late, from the few that are like them, and forgotten again: their margins stay
low (Pleiss et al., Identifying Mislabeled Data using the Area Under the Margin Ranking, 2020; Swayamdipta et al.,
Dataset Cartography, 2020; Toneva et al., An Empirical Study of Example Forgetting, 2019). Each row's figures are those
of the step that it was learned in, before the step was taken: they come with the gradients, and cost next to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlxdistill.rundir.files import write_jsonl
from mlxdistill.student.encoding import EncodedRow
from mlxdistill.student.targets import TargetBatch

KINDS = ("loss", "margin")


class Record:
    """Of each row with a label, in each epoch: the loss, and the margin of its label over the likeliest other.

    The margin is in logits, at the label's worst position. Where a row comes more than once in an epoch, its last time
    counts.
    """

    def __init__(self, rows: Sequence[EncodedRow], epochs: int) -> None:
        self._rows = rows
        self._values = {kind: np.full((len(rows), epochs), np.nan, np.float32) for kind in KINDS}

    def figures(self, rows: Sequence[int], found: Mapping[int, tuple[float, float]]) -> dict[str, float]:
        """What ranks add up, of a step's rows: each of them knows some."""
        given = {row: found.get(row, (0.0, 0.0)) for row in rows if self._rows[row].label is not None}
        return {f"{kind} {row}": value for row, pair in given.items() for kind, value in zip(KINDS, pair, strict=True)}

    def take(self, epoch: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            kind, _, row = name.partition(" ")
            if row:
                self._values[kind][int(row), epoch] = value

    def tensors(self) -> dict[str, Any]:
        """For a checkpoint."""
        import mlx.core as mx

        return {kind: mx.array(values) for kind, values in self._values.items()}

    def restore(self, tensors: Mapping[str, Any]) -> None:
        self._values = {kind: np.array(tensors[kind]) for kind in KINDS}

    def write(self, path: Path, names: Sequence[str]) -> None:
        """One line a row: its id and label, and a loss and a margin for each epoch; null where it was not learned."""
        write_jsonl(
            path,
            (
                {
                    "id": row.id,
                    "label": names[row.label],
                    **{kind: [_plain(value) for value in self._values[kind][place].tolist()] for kind in KINDS},
                }
                for place, row in enumerate(self._rows)
                if row.label is not None
            ),
        )


def row_figures(
    batch: TargetBatch, rows: Sequence[int], losses: NDArray[np.float32], chosen: NDArray[np.float32]
) -> dict[int, tuple[float, float]]:
    """Row -> its loss and margin.

    Args:
        rows: which row each of the batch is.
        losses: [S], of each position; `chosen`: [S, K], logits of the tokens that may follow there.
    """
    places = np.arange(len(losses))
    others = np.array(chosen)
    others[np.arange(others.shape[1]) >= batch.branches[:, None]] = -np.inf
    own = others[places, batch.hard]
    others[places, batch.hard] = -np.inf
    margins = own - others.max(axis=1)
    supervised = batch.weights > 0
    found = {}
    for number, row in enumerate(rows):
        mine = supervised & (batch.row_of == number)
        found[row] = (float(losses[mine].sum()), float(margins[mine].min()))
    return found


def _plain(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None
