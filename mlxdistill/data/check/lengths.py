"""How long texts are, and which are too long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

BARS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
QUANTILES = {"median": 0.5, "p90": 0.9, "p99": 0.99}


class Measure(Protocol):
    """Measures texts.

    Attributes:
        unit: what of, for people: `words`, `tokens of the student`.
        most: what is longer is cut; None: nothing is.
    """

    unit: str
    most: int | None

    def lengths(self, texts: Sequence[str]) -> Sequence[int]: ...


class Words:
    """Texts in words, which is all that can be said without a tokenizer."""

    unit = "words"
    most: int | None = None

    def lengths(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]


@dataclass(frozen=True, slots=True)
class Bar:
    """Rows with more than the bar before and at most `up_to`; None: no limit."""

    up_to: int | None
    rows: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths in `unit`, of `rows` rows; `cut`: those longer than `most`."""

    unit: str
    rows: int
    median: int
    p90: int
    p99: int
    longest: int
    bars: tuple[Bar, ...]
    most: int | None
    cut: int


class LengthCounter:
    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._counts: Counter[int] = Counter()

    def see(self, texts: Sequence[str]) -> None:
        self._counts.update(map(_rounded, self._measure.lengths(texts)))

    def lengths(self) -> Lengths | None:
        """None where there were no texts."""
        if not self._counts:
            return None
        most = self._measure.most
        found = {name: _quantile(self._counts, share) for name, share in QUANTILES.items()}
        cut = 0 if most is None else sum(rows for length, rows in self._counts.items() if length > most)
        total = self._counts.total()
        return Lengths(
            self._measure.unit,
            total,
            **found,
            longest=max(self._counts),
            bars=tuple(_bars(self._counts)),
            most=most,
            cut=cut,
        )


def _rounded(length: int) -> int:
    """Up to four digits: very long texts would else have a count each."""
    step: int = 10 ** max(0, len(str(length)) - 4)
    return -(-length // step) * step


def _quantile(counts: Mapping[int, int], share: float) -> int:
    left = share * sum(counts.values())
    for length in sorted(counts):
        left -= counts[length]
        if left <= 0:
            return length
    return max(counts)


def _bars(counts: Mapping[int, int]) -> Iterable[Bar]:
    """From the first that has rows to the last."""
    bounds = (-1, *BARS)
    for low, high in zip(bounds, (*BARS, None), strict=True):
        if max(counts) <= low:
            return
        rows = sum(n for length, n in counts.items() if length > low and (high is None or length <= high))
        if rows or (high is not None and min(counts) <= high):
            yield Bar(high, rows)
