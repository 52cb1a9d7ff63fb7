"""What every reader gives: records one at a time, whatever the format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mlxdistill.tasks.lines import BadLine, Record


@dataclass(frozen=True, slots=True)
class Source:
    """An open file of rows.

    Attributes:
        where: the path, as messages name it.
        columns: the columns, where the format has them once for all rows; None for JSON lines.
        rows: how many rows to expect, for progress; None where only reading tells.
        records: the rows; read once.
        class_names: for columns of class numbers, the name of each number.
    """

    where: str
    columns: tuple[str, ...] | None
    rows: int | None
    records: Iterator[Record | BadLine]
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
