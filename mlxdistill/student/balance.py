"""Which rows an epoch is made of: every one once, or as many of each class, by repeating or leaving out rows.

Upsampling brings every class to as many rows as the largest has: each row of a smaller class comes equally often,
give or take one. Downsampling brings every class to as many as the smallest has. Which rows of a class come once more,
or at all, goes round from epoch to epoch, in an order drawn once: over the epochs every row gets its turn, where one
draw for all of them would throw the others away, and independent draws would take some twice before others once.

All of it follows from the seed and the number of the epoch, so that a training that goes on takes the same steps. A
rationale comes as often as the row that it explains.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlxdistill.config.models import TrainConfig
from mlxdistill.student.batches import epoch_steps
from mlxdistill.student.encoding import EncodedRow

_NO_LABEL = -1


class Epochs:
    """The rows and steps of each epoch of a training.

    Args:
        rows: to learn from.
        lengths: tokens that each of them feeds to the model.
        config: of which `class_balance`, `epochs` and `seed` are heeded.

    Attributes:
        lengths: as given.
        rows: how many rows an epoch has, copies counted; of rationales, whose number may differ, the most.
    """

    def __init__(self, rows: Sequence[EncodedRow], lengths: Sequence[int], config: TrainConfig) -> None:
        self.lengths = lengths
        self._seed = config.seed
        self._labels = np.array([_NO_LABEL if row.label is None else row.label for row in rows])
        self._members: dict[int, NDArray[np.int64]] = {}
        self._explaining, self._explained = np.empty((2, 0), np.int64)
        self._size = 0
        if config.class_balance in ("upsample", "downsample"):
            labels = np.unique(self._labels[self._labels != _NO_LABEL])
            self._members = {int(label): np.flatnonzero(self._labels == label) for label in labels}
            sizes = [len(places) for places in self._members.values()] or [0]
            self._size = max(sizes) if config.class_balance == "upsample" else min(sizes)
            self._explaining, self._explained = _pairs(rows)
        varied = range(config.epochs if len(self._explaining) else 1)
        counts = [int(self.copies(epoch).sum()) for epoch in varied]
        self.rows, self._fewest = max(counts), min(counts)

    def copies(self, epoch: int) -> NDArray[np.int64]:
        """How often each row comes in the epoch."""
        found = np.ones(len(self._labels), np.int64)
        for label, places in self._members.items():
            order = np.random.default_rng([self._seed, label]).permutation(places)
            each, more = divmod(self._size, len(places))
            found[places] = each
            found[np.roll(order, -epoch * more)[:more]] += 1
        found[self._explaining] = found[self._explained]
        return found

    def label_counts(self, epoch: int, labels: int) -> tuple[int, ...]:
        """How many rows of each of so many labels come in the epoch, copies counted."""
        copies = self.copies(epoch)
        return tuple(int(copies[self._labels == label].sum()) for label in range(labels))

    def count_steps(self, batch_size: int) -> int:
        """The steps of every epoch; none of them is without rows."""
        return min(-(-self.rows // batch_size), self._fewest)

    def steps(self, batch_size: int, epoch: int) -> list[tuple[int, ...]]:
        """The rows of each step of an epoch: at most `batch_size`, where rows come one at a time now and then two."""
        count = self.count_steps(batch_size)
        return epoch_steps(self.lengths, count, seed=self._seed, epoch=epoch, copies=self.copies(epoch))


def _pairs(rows: Sequence[EncodedRow]) -> NDArray[np.int64]:
    """(2, n): the places of the rationales, and of the rows that they explain."""
    labelled = {row.id: place for place, row in enumerate(rows) if row.label is not None}
    found = [(place, labelled[row.id]) for place, row in enumerate(rows) if row.is_rationale and row.id in labelled]
    return np.array(found, np.int64).reshape(-1, 2).T
