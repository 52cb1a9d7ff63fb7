"""Rows put aside in a temporary file while it is decided where each belongs.

In memory stand a few numbers a row: hashes of its id, group and text, the number of its class, its time, its place in
the file. So a million rows take tens of megabytes, however long their texts are.
"""

from __future__ import annotations

import bisect
import hashlib
import json
import os
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from mlxdistill.data.deck import Cards, rank, unit_key
from mlxdistill.tasks.rows import Row, normalised

_ENCODER = json.JSONEncoder(ensure_ascii=False)

BLOCK_BYTES = 2**20
NO_TIME = np.iinfo(np.int64).min


def text_key(text: str) -> int:
    """64 bits of the hash of a text as duplicates are compared: equal for exact duplicates."""
    return int.from_bytes(hashlib.sha256(normalised(text).encode("utf-8", "surrogatepass")).digest()[:8], "big")


class RowSpool(Sequence[Row]):
    """Rows in a file, by their place, and columns of what splitting asks about each of them.

    Args:
        folder: where the temporary file lies.
        labels: the classes, which get their places as numbers.
        seed: of the order of drawing.
    """

    def __init__(self, folder: Path, labels: Sequence[str], seed: int) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed with the spool)
        self._labels = tuple(labels)
        self._class_of = {label: number for number, label in enumerate(labels)}
        self._seed = seed
        self._ends = array("q", [0])
        self._ranks, self._units, self._keys = array("Q"), array("Q"), array("Q")
        self._classes, self._times = array("i"), array("q")

    def close(self) -> None:
        self._file.close()

    def append(self, row: Row, key: int, time: int | None = None) -> None:
        """Adds a row; `key` is its `text_key`, `time` in milliseconds since 1970."""
        line = _ENCODER.encode([row.id, row.text, dict(row.meta)]) + "\n"
        self._ends.append(self._ends[-1] + self._file.write(line.encode()))
        self._ranks.append(rank(self._seed, row.id))
        self._units.append(rank(self._seed, unit_key(row)))
        self._keys.append(key)
        self._classes.append(-1 if row.gold is None else self._class_of[row.gold])
        self._times.append(NO_TIME if time is None else time)

    def gold(self, place: int) -> str | None:
        number = self._classes[place]
        return None if number < 0 else self._labels[number]

    def set_gold(self, place: int, gold: str | None) -> None:
        self._classes[place] = -1 if gold is None else self._class_of[gold]

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | Sequence[Row]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        place %= len(self)
        self._file.flush()
        start = self._ends[place]
        return self._row(place, os.pread(self._file.fileno(), self._ends[place + 1] - start, start))

    def __iter__(self) -> Iterator[Row]:
        self._file.flush()
        place = 0
        while place < len(self):
            start = self._ends[place]
            after = max(place + 1, bisect.bisect_right(self._ends, start + BLOCK_BYTES) - 1)
            block = os.pread(self._file.fileno(), self._ends[after] - start, start)
            for number in range(place, after):
                yield self._row(number, block[self._ends[number] - start : self._ends[number + 1] - start])
            place = after

    def _row(self, place: int, line: bytes) -> Row:
        row_id, text, meta = json.loads(line)
        return Row(row_id, text, self.gold(place), meta)

    @property
    def keys(self) -> NDArray[np.uint64]:
        """Each row's `text_key`."""
        return _column(self._keys, np.uint64)

    @property
    def ranks(self) -> NDArray[np.uint64]:
        """Equal for rows with the same id."""
        return _column(self._ranks, np.uint64)

    @property
    def units(self) -> NDArray[np.uint64]:
        """Equal for rows of the same group; rows without one have one each."""
        return _column(self._units, np.uint64)

    @property
    def classes(self) -> NDArray[np.int32]:
        """The number of each row's gold label; -1: none."""
        return _column(self._classes, np.int32)

    @property
    def times(self) -> NDArray[np.int64]:
        """Milliseconds since 1970; NO_TIME: none."""
        return _column(self._times, np.int64)

    def class_counts(self, places: NDArray[np.int64] | None = None) -> dict[str, int]:
        """How many rows have each gold label, of all or of some places."""
        classes = self.classes if places is None else self.classes[places]
        counts = np.bincount(classes[classes >= 0], minlength=len(self._labels))
        return dict(zip(self._labels, counts.tolist(), strict=True))

    def cards(self) -> Cards:
        """The rows as they are drawn, with units by group alone."""
        return Cards(self.ranks, self.units, self.classes, self._labels)

    def texts(self) -> Iterator[str]:
        """As duplicates are compared, in order."""
        return (normalised(row.text) for row in self)


def _column(values: array[int], kind: Any) -> NDArray[Any]:
    return np.frombuffer(values, kind).copy() if len(values) else np.empty(0, kind)
