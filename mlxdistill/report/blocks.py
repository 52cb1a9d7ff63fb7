"""The few shapes that a page is built of: tables, figures and the notes under them.

Sections build these; one template macro draws each. So every table gets its caption, scopes and notes, and no chart can
be without its table.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from markupsafe import Markup

from mlxdistill.report.numbers import MISSING, Estimate, percent, percent_interval

NOT_MEASURED = "not measured in this run"


@dataclass(frozen=True, slots=True)
class Cell:
    """A table cell: `text`, a smaller second line, a short tag, and the number of a note under the table."""

    text: str
    detail: str = ""
    tag: str = ""
    note: int | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A column's heading; `long` ones hold sentences."""

    name: str
    numeric: bool = True
    long: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose first column names its rows.

    Attributes:
        key: unique on the page.
        strong: indices of the rows that matter most.
    """

    key: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    strong: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with a caption and the table of its numbers (None where that table stands right beside it)."""

    drawing: Markup
    title: str
    caption: str = ""
    table: Table | None = None
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page under a heading of its own."""

    key: str
    title: str
    paragraphs: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    folded_title: str = ""
    folded: tuple[Table, ...] = ()


@dataclass(slots=True)
class Notes:
    """Collects why values are missing; the same reason is noted once."""

    reasons: list[str] = field(default_factory=list)

    def mark(self, reason: str | None) -> int:
        text = reason or NOT_MEASURED
        if text not in self.reasons:
            self.reasons.append(text)
        return self.reasons.index(text) + 1

    def share(self, estimate: Estimate) -> Cell:
        """A share as `91.0 %` over `(86.9–94.0)`."""
        if estimate.value is None:
            return Cell(MISSING, note=self.mark(estimate.reason))
        note = self.mark(estimate.reason) if estimate.reason else None
        return Cell(percent(estimate.value), percent_interval(estimate.low, estimate.high), note=note)

    def shown(self, text: str, reason: str | None = None) -> Cell:
        """A formatted value; where it is missing, with its note."""
        return Cell(text, note=self.mark(reason)) if text == MISSING else Cell(text)
