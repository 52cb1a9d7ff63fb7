"""What a batch is to learn, as numbers.

A supervised position has a distribution over a few next tokens as its target. With a hard label that is the one token
that follows. With the teacher's class probabilities it is, at each node of the hard label's path through the label
trie, the teacher's own conditional distribution: the mass of the labels behind each branch over the node's mass. For
labels that differ in their first token this is exactly distillation of the class probabilities (Hinton, Vinyals, Dean:
Distilling the Knowledge in a Neural Network, 2015, over classes instead of the vocabulary). With a teacher's
log-probabilities of an answer's tokens it is, at each token, the teacher's distribution over the few likeliest
(`soft_tokens`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlxdistill.student.batches import Batch, token_matrix
from mlxdistill.student.encoding import EncodedRow
from mlxdistill.student.soft_tokens import SoftTokens
from mlxdistill.tasks.trie import Branch, Trie

POSITIONS_MULTIPLE = 16
WIDTH_MULTIPLE = 8  # of the likeliest tokens, so that few shapes are compiled


@dataclass(frozen=True, slots=True)
class TargetSettings:
    """`soft_weight` and `temperature` as in the configuration; `label_weights`: one per label, or None for all 1."""

    soft_weight: float
    temperature: float
    label_weights: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class TargetBatch:
    """A batch of S supervised positions with at most K possible next tokens each.

    Attributes:
        inputs: int32 [rows, length].
        positions: int32 [S], into the flattened inputs.
        tokens: int32 [S, K]; `target`: float32 [S, K], sums to 1 over K.
        weights: float32 [S]; 0 for positions that only fill up the shape.
        branches: int32 [S], how many of the K are possible; `hard`: int32 [S], which of them the hard label takes.
        row_of: int32 [S], the row in the batch.
    """

    inputs: NDArray[np.int32]
    positions: NDArray[np.int32]
    tokens: NDArray[np.int32]
    target: NDArray[np.float32]
    weights: NDArray[np.float32]
    branches: NDArray[np.int32]
    hard: NDArray[np.int32]
    row_of: NDArray[np.int32]


def label_weights(rows: Sequence[EncodedRow], labels: int) -> tuple[float, ...]:
    """Weights under which every label that occurs counts the same, beside the weights that rows have themselves; with
    mean 1 over the rows with labels, each as often as it weighs."""
    sums = [math.fsum(row.weight for row in rows if row.label == label) for label in range(labels)]
    occurring = [label for label in range(labels) if sums[label]]
    total = math.fsum(sums)
    return tuple(total / (len(occurring) * sums[label]) if sums[label] else 1.0 for label in range(labels))


def padded_count(positions: int) -> int:
    """A number at least as large, out of few: multiples of 16, and above 64 of a quarter of a power of two."""
    step = max(POSITIONS_MULTIPLE, 1 << max((positions - 1).bit_length() - 3, 0))
    return -(-positions // step) * step


class TargetBuilder:
    """Makes target batches for one task.

    Args:
        shared: how many tokens at the beginning of every row are run apart from it, and left out of the inputs.
    """

    def __init__(self, trie: Trie | None, settings: TargetSettings, shared: int = 0) -> None:
        self._trie = trie
        self._settings = settings
        self._shared = shared
        self._paths = [] if trie is None else [_branches_along(trie, label) for label in range(len(trie.paths))]
        self._width = max((len(node.branches) for node in trie.nodes), default=1) if trie is not None else 1

    def build(self, rows: Sequence[EncodedRow], batch: Batch) -> TargetBatch:
        chosen = [rows[number] for number in batch.rows]
        count = sum(row.targets for row in chosen)
        size = padded_count(count)
        width = self._width_of(chosen)
        made = TargetBatch(
            inputs=token_matrix([row.tokens[self._shared : -1] for row in chosen], batch.length),
            positions=np.zeros(size, np.int32),
            tokens=np.zeros((size, width), np.int32),
            target=np.zeros((size, width), np.float32),
            weights=np.zeros(size, np.float32),
            branches=np.ones(size, np.int32),
            hard=np.zeros(size, np.int32),
            row_of=np.zeros(size, np.int32),
        )
        made.target[:, 0] = 1
        place = 0
        for number, row in enumerate(chosen):
            end = place + row.targets
            first = number * batch.length + row.first_target - 1 - self._shared
            made.positions[place:end] = np.arange(first, first + row.targets)
            made.weights[place:end] = row.weight * self._label_weight(row)
            made.row_of[place:end] = number
            made.tokens[place:end, 0] = row.tokens[row.first_target :]
            if row.label is not None:
                self._fill_path(made, place, row.label, row.probabilities)
            if row.soft is not None:
                self._fill_soft(made, slice(place, end), row.soft)
            place = end
        return made

    def _width_of(self, rows: Sequence[EncodedRow]) -> int:
        needed = max((row.soft.ids.shape[1] for row in rows if row.soft is not None), default=0)
        return max(self._width, -(-needed // WIDTH_MULTIPLE) * WIDTH_MULTIPLE)

    def weight(self, rows: Sequence[EncodedRow]) -> float:
        """What the sum of the rows' losses is divided by, for the mean of a step: see `encoding`."""
        # Not by the labels' weights: in a step where all rows are of one class, they would cancel.
        return math.fsum(row.targets if row.counts is None else row.counts for row in rows)

    def _label_weight(self, row: EncodedRow) -> float:
        weights = self._settings.label_weights
        return 1.0 if weights is None or row.label is None else weights[row.label]

    def _fill_path(self, made: TargetBatch, place: int, label: int, probabilities: tuple[float, ...] | None) -> None:
        soft = self._settings.soft_weight if probabilities is not None else 0.0
        tempered = _tempered(probabilities, self._settings.temperature) if probabilities is not None else None
        for depth, branches in enumerate(self._paths[label]):
            at = place + depth
            hard = np.array([label in branch.labels for branch in branches], np.float64)
            target = hard
            if tempered is not None:
                mass = np.array([tempered[list(branch.labels)].sum() for branch in branches])
                # A teacher that gives the node no mass says nothing about what follows: the hard label does.
                target = (1 - soft) * hard + soft * (mass / mass.sum() if mass.sum() > 0 else hard)
            made.tokens[at, : len(branches)] = [branch.token for branch in branches]
            made.target[at, : len(branches)] = target
            made.branches[at] = len(branches)
            made.hard[at] = int(hard.argmax())

    def _fill_soft(self, made: TargetBatch, rows: slice, soft: SoftTokens) -> None:
        count = soft.ids.shape[1]
        is_written = soft.ids == made.tokens[rows, :1]
        hard = is_written.argmax(axis=1)
        target = self._settings.soft_weight * _tempered(soft.probabilities, self._settings.temperature)
        target[np.arange(len(target)), hard] += 1 - self._settings.soft_weight
        made.tokens[rows, :count] = soft.ids
        made.target[rows, :count] = target
        made.branches[rows] = count
        made.hard[rows] = hard


def _branches_along(trie: Trie, label: int) -> list[tuple[Branch, ...]]:
    """The branches of each node on the label's path, from the root."""
    found = []
    node: int | None = 0
    while node is not None:
        branches = trie.nodes[node].branches
        found.append(branches)
        node = next((branch.node for branch in branches if label in branch.labels), None)
    return found


def _tempered(probabilities: Sequence[float] | NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Distributions along the last axis."""
    values = np.asarray(probabilities, np.float64)
    powered = (values / values.max(axis=-1, keepdims=True)) ** (1 / temperature)
    return np.asarray(powered / powered.sum(axis=-1, keepdims=True))
