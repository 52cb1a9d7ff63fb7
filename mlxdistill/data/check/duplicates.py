"""Rows that are there twice, exactly or nearly, and those of them that contradict each other.

Of each row a hash of its text and one of its id are kept, 64 bits each, so a million rows take some 200 MB; two
different texts with the same hash are to be expected in one of 30 million files of that size.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlxdistill.data.check.columns import text_mark
from mlxdistill.tasks.rows import Row, normalised
from mlxdistill.text.near_duplicates import near_duplicates

THRESHOLD = 0.8


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Rows with the text of an earlier one, after normalisation.

    Attributes:
        exact: those with the same text; `near`: further ones with a Jaccard similarity of at least `threshold`; None:
            not looked for.
        conflicting_gold: exact ones with another gold than the first row of that text that has one.
    """

    exact: int
    near: int | None
    threshold: float
    conflicting_gold: int


class DuplicateFinder:
    def __init__(self) -> None:
        self._texts = array("Q")
        self._golds = array("q")
        self._seen: set[int] = set()
        self._labels: dict[str, int] = {}

    def see(self, row: Row) -> str | None:
        """The row's normalised text where it is the first that has it."""
        text = normalised(row.text)
        mark = text_mark(text)
        self._texts.append(mark)
        gold = row.gold
        self._golds.append(-1 if gold is None else self._labels.setdefault(gold, len(self._labels)))
        if mark in self._seen:
            return None
        self._seen.add(mark)
        return text

    def found(self, near: int | None, threshold: float = THRESHOLD) -> Duplicates:
        exact = len(self._texts) - len(self._seen)
        return Duplicates(exact, near, threshold, self._conflicts())

    def _conflicts(self) -> int:
        golds = np.frombuffer(self._golds, np.int64) if self._golds else np.empty(0, np.int64)
        has_gold = golds >= 0
        golds = golds[has_gold]
        texts = np.frombuffer(self._texts, np.uint64)[has_gold] if self._texts else np.empty(0, np.uint64)
        _, firsts, group = np.unique(texts, return_index=True, return_inverse=True)
        return int((golds != golds[firsts][group]).sum())


def count_near(texts: Iterable[str], threshold: float = THRESHOLD) -> int:
    """Of normalised texts, those nearly the same as an earlier one; reads them once, in order."""
    places: NDArray[np.int64] = near_duplicates(texts, threshold)
    return int((places != np.arange(len(places))).sum())


class IdLines:
    """The line in which each id came first."""

    def __init__(self) -> None:
        self._lines: dict[int, int] = {}

    def add(self, row_id: str, line: int) -> None:
        self._lines.setdefault(text_mark(row_id), line)

    def line_of(self, row_id: str) -> int | None:
        return self._lines.get(text_mark(row_id))
