"""One pass over a file of rows, as `ingest` would read it, with everything counted on the way.

What a row is, and what is wrong with a line, is decided by the same `RowMaker`. Texts are not kept: what compares them
with each other writes them down in a temporary file (`text/near_duplicates.py`). Looks that cost more than reading
(language, personal data, tokens) are taken at rows drawn by chance where there are more than asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxdistill.data.check.characters import CharacterCounter, Found
from mlxdistill.data.check.columns import ColumnProfile, ColumnProfiler
from mlxdistill.data.check.duplicates import DuplicateFinder, Duplicates, IdLines, count_near
from mlxdistill.data.check.gold import CountedGold, GoldFindings
from mlxdistill.data.check.lengths import LengthCounter, Lengths, Measure
from mlxdistill.data.check.long_texts import LongTexts
from mlxdistill.data.fields import Columns, MadeRow, RowMaker
from mlxdistill.data.readers import read_source
from mlxdistill.data.redaction import find_personal_data
from mlxdistill.data.source import Source
from mlxdistill.tasks.lines import BAD_LINES_SHOWN, BadLine, Record
from mlxdistill.tasks.logs import logged_text
from mlxdistill.tasks.protocols import Progress
from mlxdistill.text.language import language_of

PROGRESS_ROWS = 500
UNCLEAR = "unclear"
LENGTH_ROWS = 512  # measured at once
_MIX, _WORD = 0x9E3779B97F4A7C15, 2**64


@dataclass(frozen=True, slots=True)
class BadLineCount:
    """Lines that cannot be used: how many, and the first of them."""

    count: int
    first: tuple[BadLine, ...]


@dataclass(frozen=True, slots=True)
class Findings:
    """What a file holds.

    Attributes:
        rows: rows and bad lines together; `usable`: of them, those a model can be asked about.
        columns_left_out: whether there are more columns than were looked at.
        looked_at: rows whose language and personal data were looked at, and whose length was measured.
        languages: rows of each, the most frequent first; `unclear`: those of which it cannot be told.
        personal_data: by kind.
        hidden_characters: by kind, over all rows.
    """

    path: str
    rows: int
    usable: int
    bad_lines: BadLineCount
    columns: tuple[ColumnProfile, ...]
    columns_left_out: bool
    duplicates: Duplicates
    gold: GoldFindings
    lengths: Lengths | None
    looked_at: int
    languages: Mapping[str, int]
    personal_data: Mapping[str, Found]
    hidden_characters: Mapping[str, Found]


def open_whole(path: Path, wanted: tuple[str, ...]) -> Source:
    """The file with all its columns. `wanted` as of `read_source`, which raises what this raises."""
    source = read_source(path, wanted)
    if source.columns is None or set(source.columns) <= set(wanted):
        return source
    return read_source(path, (*wanted, *source.columns))


class Examination:
    """Reads a source once.

    Args:
        columns: which column holds what.
        gold: reads gold values, and counts them.
        measure: of lengths.
        long: keep the texts that may be too long for some model.
        is_given: whether the file is a set of its own, which is taken as it is: its rows need no time, and duplicates
            are rows of it.
        sample: about so many rows are looked at closely, all of them where there are fewer.
    """

    def __init__(
        self,
        source: Source,
        columns: Columns,
        gold: CountedGold,
        measure: Measure,
        long: Sequence[LongTexts],
        sample: int,
        progress: Progress,
        *,
        is_given: bool = False,
    ) -> None:
        self._source = source
        self._columns = columns
        self._gold = gold
        self._maker = RowMaker(columns, gold)
        self._is_given = is_given
        self._progress = progress
        self._long = long
        self._share = 1.0 if not source.rows else min(1.0, sample / source.rows)
        self._profiler = ColumnProfiler(source.columns or ())
        self._duplicates = DuplicateFinder()
        self._ids = IdLines()
        self._lengths = LengthCounter(measure)
        self._characters = CharacterCounter()
        self._languages: Counter[str] = Counter()
        self._personal_rows: Counter[str] = Counter()
        self._personal_places: Counter[str] = Counter()
        self._waiting: list[str] = []
        self._bad: list[BadLine] = []
        self._rows = self._bad_lines = self._looked_at = 0

    def findings(self) -> Findings:
        """Raises DataError where the file turns out to be damaged."""
        near = count_near(self._first_texts())
        self._lengths.see(self._waiting)
        kinds = sorted(self._personal_rows, key=lambda kind: -self._personal_rows[kind])
        return Findings(
            path=self._source.where,
            rows=self._rows,
            usable=self._rows - self._bad_lines,
            bad_lines=BadLineCount(self._bad_lines, tuple(self._bad)),
            columns=self._profiler.profiles(),
            columns_left_out=self._profiler.more,
            duplicates=self._duplicates.found(near),
            gold=self._gold.findings(),
            lengths=self._lengths.lengths(),
            looked_at=self._looked_at,
            languages=dict(self._languages.most_common()),
            personal_data={kind: Found(self._personal_rows[kind], self._personal_places[kind]) for kind in kinds},
            hidden_characters=self._characters.found(),
        )

    def _first_texts(self) -> Iterator[str]:
        """The normalised text of every row that has one no earlier row has."""
        for record in self._source.records:
            self._rows += 1
            if self._rows % PROGRESS_ROWS == 0:
                self._progress.advance(self._rows, max(self._rows, self._source.rows or 0))
            made = self._made(record)
            if isinstance(made, BadLine):
                self._bad_lines += 1
                if len(self._bad) < BAD_LINES_SHOWN:
                    self._bad.append(made)
                continue
            self._gold.count(made.row.gold)
            text = self._duplicates.see(made.row)
            if text is not None or self._is_given:
                self._ids.add(made.row.id, made.number)
            for each in self._long:
                each.see(made.row.text)
            if self._is_drawn():
                self._look(made.row.text)
            if text is not None:
                yield text
        if self._rows:
            self._progress.advance(self._rows, self._rows)

    def _made(self, record: Record | BadLine) -> MadeRow | BadLine:
        if isinstance(record, BadLine):
            return record
        self._profiler.see(record.values)
        text = self._text(record.values)
        if isinstance(text, str):
            self._characters.see(text)
        made = self._maker.make(record, self._source.class_names, timed=not self._is_given)
        if isinstance(made, MadeRow) and made.own_id:
            line = self._ids.line_of(made.row.id)
            if line is not None:
                return BadLine(made.number, f"the id {made.row.id!r} was already used in line {line}")
        return made

    def _text(self, values: Mapping[str, Any]) -> Any:
        return logged_text(values) if self._columns.text is None else values.get(self._columns.text)

    def _is_drawn(self) -> bool:
        return self._share == 1.0 or self._rows * _MIX % _WORD < self._share * _WORD

    def _look(self, text: str) -> None:
        self._looked_at += 1
        self._languages[language_of(text) or UNCLEAR] += 1
        kinds = Counter(span.kind for span in find_personal_data(text))
        self._personal_places += kinds
        self._personal_rows.update(kinds.keys())
        self._waiting.append(text)
        if len(self._waiting) == LENGTH_ROWS:
            self._lengths.see(self._waiting)
            self._waiting.clear()
