"""The latest rows, as few as hold what is needed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mlxdistill.data.deck import Cards, Places
from mlxdistill.errors import DataError

Times = NDArray[np.int64]


def latest(cards: Cards, times: Times, needs: Mapping[str | None, int], most: int) -> Places:
    """The places of the latest rows, as few as hold what is needed of each label, at most `most` if times allow it.

    Args:
        times: of each row; only their order counts. Rows of the same time stay together.
        needs: rows of each label; under None, of those without.

    Raises DataError where the rows cannot be cut in two by their times.
    """
    order = np.argsort(times, kind="stable")
    begin = len(order) - 1
    for number, label in enumerate((*cards.labels, None)):
        its = np.flatnonzero(cards.classes[order] == (number if label is not None else -1))
        if count := needs.get(label, 0):
            begin = min(begin, int(its[-count]) if len(its) >= count else 0)
    begin = max(begin, len(order) - most)
    ordered = times[order]
    first = int(np.searchsorted(ordered, ordered[begin]))
    if len(order) - first > max(most, len(order) // 2):  # the times are coarse: rather too few rows than all
        first = int(np.searchsorted(ordered, ordered[begin], side="right"))
    if first in (0, len(order)):
        raise too_coarse()
    return np.sort(order[first:])


def nothing_left() -> DataError:
    return DataError(
        "every group, or set of near duplicates, has a row in a drawn set, and none is left to learn from",
        where="data.group",
        hint="lower the sets, set data.group: null or data.near_duplicates: null, or leave data.time out",
    )


def too_coarse() -> DataError:
    return DataError(
        "so many rows have the same time that they cannot be split by it",
        where="data.time",
        hint="name a column with finer times, lower the sets, or leave data.time out",
    )
