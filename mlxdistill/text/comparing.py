"""Texts in a temporary file, and the exact similarity of any two of them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import IO

import numpy as np
from numpy.typing import NDArray

from mlxdistill.text.shingles import packed_shingles, shingles

KEPT_CHARACTERS = 6_000_000  # of texts whose shingles are kept between comparisons


class TextSpool:
    """Texts in a file, by their place."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._ends = array("q", [0])
        self._shingles: dict[int, NDArray[np.uint64] | set[str]] = {}
        self._kept_characters = 0

    def __len__(self) -> int:
        return len(self._ends) - 1

    def passing(self, texts: Iterable[str]) -> Iterator[str]:
        """The texts, each written down as it passes."""
        for text in texts:
            self._ends.append(self._ends[-1] + self._file.write(text.encode("utf-8", "surrogatepass")))
            yield text

    def similar(self, place: int, other: int, threshold: float) -> bool:
        """Whether the Jaccard similarity of two texts' shingles is at least the threshold: exact, no estimate."""
        ours, theirs = self._set(place), self._set(other)
        fewer, more = sorted((len(ours), len(theirs)))
        if fewer / more < threshold:
            return False
        if isinstance(ours, np.ndarray) and isinstance(theirs, np.ndarray):
            both = np.concatenate([ours, theirs])
            both.sort(kind="stable")  # merges what is sorted
            common = int(np.count_nonzero(both[1:] == both[:-1]))
        else:
            common = len(self._strings(place, ours) & self._strings(other, theirs))
        return common / (fewer + more - common) >= threshold

    def _text(self, place: int) -> str:
        start, end = self._ends[place], self._ends[place + 1]
        self._file.seek(start)
        return self._file.read(end - start).decode("utf-8", "surrogatepass")

    def _set(self, place: int) -> NDArray[np.uint64] | set[str]:
        known = self._shingles.get(place)
        if known is not None:
            return known
        text = self._text(place)
        packed = packed_shingles(text)
        found = shingles(text) if packed is None else packed
        self._kept_characters += len(text)
        if self._kept_characters > KEPT_CHARACTERS:
            self._shingles.clear()
            self._kept_characters = len(text)
        self._shingles[place] = found
        return found

    def _strings(self, place: int, known: NDArray[np.uint64] | set[str]) -> set[str]:
        return known if isinstance(known, set) else shingles(self._text(place))
