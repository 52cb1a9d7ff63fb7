"""Which texts belong together: the components of the graph whose edges are the pairs that are nearly the same.

Two texts meet where they share a band of their signatures (`text.near_duplicates`), band by band, those that lie next
to each other first: where many are alike, nearly all are joined before they are compared with one another. A pair
already joined is not compared again; of the others, signatures rule out those that differ too much, and the rest are
compared exactly.

Crowds, thousands of rows made from one template, would take for ever if each were compared with all the others, so
two numbers bound it, and cost stays linear: of more than MOST_MET texts that share a band, each meets the MOST_MET
next to it in the order of their signatures; and where two texts were compared in vain with MOST_COMPARED others each,
and their signatures do not rule them out, they are joined without being compared. A crowd that is alike, but not
quite alike enough, is so kept together rather than torn apart unseen.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mlxdistill.text.comparing import TextSpool

EXHAUSTIVE = 2000  # as many texts are all compared with one another, and none joined unseen
MOST_MET = 1024
MOST_COMPARED = 64
SURELY = 3.5  # standard deviations under the threshold at which a signature rules a pair out; of few texts, 5.5
SURELY_OF_FEW = 5.5
PAIRS_AT_ONCE = 2**16
MOST_KNOWN = 400_000  # pairs remembered to be no near duplicates: the same two may meet in several bands

_MIX = np.uint64(0x9E3779B97F4A7C15)
_BYTE_SUM = np.uint64(0x0101010101010101)


class Joining:
    """Texts being joined.

    Args:
        marks: (texts, hashes) the low byte of each hash of the signatures; the hashes a multiple of eight, 248 at most.
    """

    def __init__(self, spool: TextSpool, marks: NDArray[np.uint8], threshold: float) -> None:
        self._spool = spool
        self._marks = marks
        self._words = marks.view(np.uint64)
        self._threshold = threshold
        self._few = len(marks) <= EXHAUSTIVE
        self._parents = np.arange(len(marks))
        self._vain = np.zeros(len(marks), np.int32)
        self._known: set[tuple[int, int]] = set()
        hashes = marks.shape[1]
        margin = (SURELY_OF_FEW if self._few else SURELY) * math.sqrt(threshold * (1 - threshold) / hashes)
        self._least = math.ceil((threshold - margin) * hashes)

    def components(self, bands: int, rows: int) -> NDArray[np.int64]:
        """For each text the place of the first one of its component."""
        count = len(self._marks)
        order = np.arange(count)
        if self._few:
            self._join_runs(order, np.array([0]), EXHAUSTIVE)
            return self._roots(order)
        for band in range(bands):
            keys = _band_keys(self._marks[:, band * rows : (band + 1) * rows])
            # A stable sort leaves those that share a band in the order of the bands before it.
            order = order[np.argsort(keys[order], kind="stable")]
            values = keys[order]
            self._join_runs(order, np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]])), MOST_MET)
            self._parents = self._roots(np.arange(count))
        return self._parents

    def _join_runs(self, order: NDArray[np.int64], begins: NDArray[np.int64], most_met: int) -> None:
        """Joins within runs of `order`, which begin at `begins`, comparing each text with up to `most_met` after it."""
        lengths = np.diff(begins, append=len(order))
        left = np.repeat(begins + lengths, lengths) - np.arange(len(order))  # places to the end of the run
        live = np.flatnonzero(left > 1)
        for distance in range(1, most_met + 1):
            if distance & (distance - 1) == 0 and len(live):
                roots = self._roots(order)
                whole = np.minimum.reduceat(roots, begins) == np.maximum.reduceat(roots, begins)
                live = live[~np.repeat(whole, lengths)[live]]
            live = live[left[live] > distance]
            if not len(live):
                return
            for start in range(0, len(live), PAIRS_AT_ONCE):
                part = live[start : start + PAIRS_AT_ONCE]
                self._join_pairs(order[part], order[part + distance])

    def _join_pairs(self, firsts: NDArray[np.int64], seconds: NDArray[np.int64]) -> None:
        apart = self._roots(firsts) != self._roots(seconds)
        firsts, seconds = firsts[apart], seconds[apart]
        likely = _agreeing(self._words, firsts, seconds) >= self._least
        for first, second in zip(firsts[likely].tolist(), seconds[likely].tolist(), strict=True):
            self._meet(min(first, second), max(first, second))

    def _meet(self, first: int, second: int) -> None:
        ours, theirs = self._root(first), self._root(second)
        if ours == theirs or (first, second) in self._known:
            return
        vain = self._vain
        unseen = not self._few and vain[first] >= MOST_COMPARED and vain[second] >= MOST_COMPARED
        if unseen or self._spool.similar(first, second, self._threshold):
            self._parents[max(ours, theirs)] = min(ours, theirs)
            return
        vain[first] += 1
        vain[second] += 1
        if len(self._known) == MOST_KNOWN:
            self._known.clear()
        self._known.add((first, second))

    def _root(self, place: int) -> int:
        parents = self._parents
        while (parent := int(parents[place])) != place:
            parents[place] = parents[parent]
            place = parent
        return place

    def _roots(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        found = self._parents[places]
        while True:
            further = self._parents[found]
            if np.array_equal(further, found):
                return found
            found = further


def _band_keys(band: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """(texts,): one band's marks as one number."""
    keys = np.zeros(len(band), np.uint64)
    for place in range(band.shape[1]):
        keys = (keys ^ band[:, place].astype(np.uint64)) * _MIX
        keys ^= keys >> np.uint64(29)
    return keys


def _agreeing(words: NDArray[np.uint64], firsts: NDArray[np.int64], seconds: NDArray[np.int64]) -> NDArray[np.uint64]:
    """In how many of its bytes each row of the first has what that of the second has: eight at a time."""
    same = np.ascontiguousarray(words[firsts]).view(np.uint8) == np.ascontiguousarray(words[seconds]).view(np.uint8)
    by_place = same.view(np.uint64).sum(axis=1, dtype=np.uint64)  # eight counts beside one another, 31 at most each
    counts: NDArray[np.uint64] = (by_place * _BYTE_SUM) >> np.uint64(56)
    return counts
