"""The columns of a file: what kinds of values they hold, how many cells are empty, how many values are distinct.

Distinct values are counted in bounded memory by adaptive sampling (Wegman; Flajolet 1990, On adaptive sampling): hashes
are kept as long as they end in enough zero bits, one more whenever too many are kept. Up to MOST_KEPT values the count
is exact, beyond that within about 1 %, and a column takes 3 MB at most.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mlxdistill.tasks.lines import is_missing

MOST_KEPT = 2**15
MOST_COLUMNS = 64  # JSON lines may name a new one in every line


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """A column.

    Attributes:
        types: cells of each kind: string, number, boolean, list or object; `empty` ones are of none.
        numeric: strings that are written as numbers.
        distinct: different values, at most as many as filled cells; `about` says that the number is an estimate.
    """

    name: str
    types: Mapping[str, int]
    numeric: int
    empty: int
    distinct: int
    about: bool


class ColumnProfiler:
    """Looks at records one by one.

    Args:
        names: the columns that are known before the first record.

    Attributes:
        more: columns beyond MOST_COLUMNS, which are not looked at.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._columns = {name: _Column() for name in list(dict.fromkeys(names))[:MOST_COLUMNS]}
        self._rows = 0
        self.more = False

    def see(self, values: Mapping[str, Any]) -> None:
        self._rows += 1
        for name, value in values.items():
            column = self._columns.get(name)
            if column is None:
                if len(self._columns) >= MOST_COLUMNS:
                    self.more = True
                    continue
                column = self._columns[name] = _Column()
            column.see(value)

    def profiles(self) -> tuple[ColumnProfile, ...]:
        return tuple(column.profile(name, self._rows) for name, column in self._columns.items())


class _Column:
    __slots__ = ("_distinct", "_numeric", "_types")

    def __init__(self) -> None:
        self._types: Counter[str] = Counter()
        self._numeric = 0
        self._distinct = Distinct()

    def see(self, value: Any) -> None:
        if is_missing(value):
            return
        self._types[_kind(value)] += 1
        if isinstance(value, str):
            self._numeric += len(value) <= 32 and _is_number(value)
            self._distinct.add(value)
        else:
            self._distinct.add(f"{_kind(value)}:{_written(value)}")

    def profile(self, name: str, rows: int) -> ColumnProfile:
        filled = self._types.total()
        distinct, about = min(self._distinct.count, filled), self._distinct.is_estimate
        return ColumnProfile(name, dict(self._types), self._numeric, rows - filled, distinct, about)


class Distinct:
    """How many different texts there were."""

    __slots__ = ("_bits", "_kept")

    def __init__(self) -> None:
        self._kept: set[int] = set()
        self._bits = 0

    def add(self, text: str) -> None:
        mark = text_mark(text)
        if mark & ((1 << self._bits) - 1):
            return
        self._kept.add(mark)
        while len(self._kept) > MOST_KEPT:
            self._bits += 1
            self._kept = {mark for mark in self._kept if not mark & ((1 << self._bits) - 1)}

    @property
    def count(self) -> int:
        return len(self._kept) << self._bits

    @property
    def is_estimate(self) -> bool:
        return self._bits > 0


def text_mark(text: str) -> int:
    """64 bits that stand for the text, the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return "string"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, Mapping):
        return "object"
    return "list" if isinstance(value, list | tuple) else type(value).__name__


def _written(value: Any) -> str:
    try:
        return repr(value)
    except (RecursionError, ValueError):  # nested as deeply as could just be read
        return ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
