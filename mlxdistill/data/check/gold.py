"""The classes of a file: how many rows each has, and which gold values mean no class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlxdistill.data.fields import MOST_VALUE_CHARACTERS, GoldReader, Unusable
from mlxdistill.tasks.classification import scalar_text
from mlxdistill.tasks.lines import is_missing, kind_of

MOST_CLASSES = 1000  # a column with more different values holds no classes
MOST_UNKNOWN = 20


@dataclass(frozen=True, slots=True)
class GoldFindings:
    """Classes.

    Attributes:
        counts: rows of each class, those of the task in its order, and those without any row too.
        without: rows without gold.
        unknown: gold values that mean no label of the task, and their rows; the most frequent.
        too_many: whether the column has more values than classes can be; there are no counts then.
    """

    counts: Mapping[str, int]
    without: int
    unknown: Mapping[str, int]
    too_many: bool = False

    @property
    def absent(self) -> tuple[str, ...]:
        """Classes of the task without a row."""
        return tuple(label for label, rows in self.counts.items() if not rows)


class AnyGold:
    """Gold of a file without a task: each value is a class."""

    def read(self, value: Any, class_names: tuple[str, ...] = ()) -> str | None:
        """The value as text, or None where the cell is empty. Raises Unusable where it is a list or an object."""
        if is_missing(value):
            return None
        if not isinstance(value, str | int | float):
            raise Unusable(f"the gold value is {kind_of(value)}")
        if class_names and isinstance(value, int) and 0 <= value < len(class_names):
            return class_names[value]
        return scalar_text(value)


class CountedGold:
    """Reads gold as `reader` does, and counts what it reads.

    Args:
        labels: those of the task, whose rows are counted though there be none.
    """

    def __init__(self, reader: GoldReader, labels: Sequence[str] = ()) -> None:
        self._reader = reader
        self._counts: Counter[str] = Counter(dict.fromkeys(labels, 0))
        self._unknown: Counter[str] = Counter()
        self._without = 0
        self._too_many = False

    def read(self, value: Any, class_names: tuple[str, ...] = ()) -> str | None:
        try:
            return self._reader.read(value, class_names)
        except Unusable:
            shown = (
                scalar_text(value)[:MOST_VALUE_CHARACTERS] if isinstance(value, str | int | float) else kind_of(value)
            )
            if shown in self._unknown or len(self._unknown) < MOST_CLASSES:
                self._unknown[shown] += 1
            raise

    def count(self, label: str | None) -> None:
        """Of a row that can be used."""
        if label is None:
            self._without += 1
        elif label in self._counts or len(self._counts) < MOST_CLASSES:
            self._counts[label] += 1
        else:
            self._too_many = True

    def findings(self) -> GoldFindings:
        counts = {} if self._too_many else dict(self._counts)
        return GoldFindings(counts, self._without, dict(self._unknown.most_common(MOST_UNKNOWN)), self._too_many)
