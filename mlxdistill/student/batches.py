"""Which rows are trained on together.

Rows of like length share a batch, so that little padding is computed; lengths are padded to few values, so that few
shapes are compiled where a device compiles them. Every row is in exactly one step of an epoch, the last ones too, and
steps differ in size by one row at most, because a step of a single left-over row would move the adapter as far as a
full one. How much of a step is computed at once is a matter of memory alone: it is cut into batches whose gradients are
added up.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COMPILED_MULTIPLE = 16
UNCOMPILED_MULTIPLE = 4


@dataclass(frozen=True, slots=True)
class Batch:
    """Numbers of the rows, and the length they are padded to."""

    rows: tuple[int, ...]
    length: int


def padded_length(tokens: int, multiple: int) -> int:
    return -(-tokens // multiple) * multiple


def epoch_steps(
    lengths: Sequence[int], count: int, *, seed: int, epoch: int, copies: NDArray[np.int64] | None = None
) -> list[tuple[int, ...]]:
    """The rows of each of `count` steps of an epoch, in order; the same for the same seed and epoch, on every device.

    Args:
        lengths: tokens that each row feeds to the model.
        copies: how often each row comes in the epoch; default: once. No step has two copies of a row, unless it comes
            more often than there are steps.
    """
    random = np.random.default_rng([seed, epoch])
    padded = np.array([padded_length(length, UNCOMPILED_MULTIPLE) for length in lengths])
    # Rows of one padded length meet others of it in each epoch: the order within is random, then sorted stably.
    shuffled = random.permutation(len(padded))
    ordered = shuffled[np.argsort(padded[shuffled], kind="stable")]
    width = 1
    if copies is not None:
        ordered = np.repeat(ordered, copies[ordered])
        width = min(count, int(copies.max()))
    steps = _dealt(ordered, count, width)
    return [tuple(int(row) for row in steps[number]) for number in random.permutation(count)]


def _dealt(ordered: NDArray[np.int64], count: int, width: int) -> list[NDArray[np.int64]]:
    """Cuts what is ordered into `count` pieces whose sizes differ by one at most.

    Blocks of at least `width` pieces are dealt out like cards: of up to `width` in a row no two come into one piece,
    and what is in a piece is still near in the order. With a width of 1 a piece is what is next to each other.
    """
    ends = np.cumsum([0, *(len(part) for part in np.array_split(ordered, count))])
    blocks = np.array_split(np.arange(count), count // width)
    found: list[NDArray[np.int64]] = []
    for block in blocks:
        items = ordered[ends[block[0]] : ends[block[-1] + 1]]
        found += [items[place :: len(block)] for place in range(len(block))]
    return found


def parts(rows: Sequence[int], lengths: Sequence[int], batch_tokens: int | None, multiple: int) -> list[Batch]:
    """A step's rows in as few batches of at most `batch_tokens` positions as will do, nearly the same rows in each.

    A row that is longer than `batch_tokens` is a batch of its own. Rows keep their order, which is that of their
    lengths.
    """
    longest = max(padded_length(lengths[row], multiple) for row in rows)
    most = len(rows) if batch_tokens is None else max(1, batch_tokens // longest)
    cut = np.array_split(np.array(rows), -(-len(rows) // most))
    return [
        Batch(tuple(int(row) for row in part), max(padded_length(lengths[row], multiple) for row in part))
        for part in cut
    ]


def even_batches(lengths: Sequence[int], batch_tokens: int, most_rows: int, multiple: int) -> list[Batch]:
    """Batches for prediction and validation, longest rows first: one row, or at most `batch_tokens` positions."""
    batches: list[Batch] = []
    rows: list[int] = []
    longest = 0
    for row in sorted(range(len(lengths)), key=lambda number: (-lengths[number], number)):
        if (rows and (len(rows) + 1) * longest > batch_tokens) or len(rows) == most_rows:
            batches.append(Batch(tuple(rows), longest))
            rows = []
        if not rows:
            longest = padded_length(lengths[row], multiple)
        rows.append(row)
    if rows:
        batches.append(Batch(tuple(rows), longest))
    return batches


def padding_efficiency(lengths: Sequence[int], batches: Sequence[Batch]) -> float:
    """The share of computed positions that hold a row's token."""
    computed = sum(len(batch.rows) * batch.length for batch in batches)
    return sum(lengths[row] for batch in batches for row in batch.rows) / computed


def common_beginning(rows: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all the rows begin with."""
    # Whatever the smallest and the largest share, all between them share.
    pairs = zip(min(rows), max(rows), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def token_matrix(rows: Sequence[Sequence[int]], length: int) -> NDArray[np.int32]:
    """int32 [rows, length], padded on the right with token 0, which causal attention never looks back at."""
    matrix = np.zeros((len(rows), length), np.int32)
    for number, tokens in enumerate(rows):
        matrix[number, : len(tokens)] = tokens
    return matrix
