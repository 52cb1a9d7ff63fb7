"""Reading one file into rows: bad lines are put aside, duplicates counted, wrong columns told at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from mlxdistill.data.fields import Columns, MadeRow, RowMaker, check_columns
from mlxdistill.data.readers import read_source
from mlxdistill.data.source import Source
from mlxdistill.data.spool import RowSpool, text_key
from mlxdistill.errors import DataError
from mlxdistill.tasks.lines import BadLine, BadLines
from mlxdistill.tasks.protocols import Progress

PROGRESS_ROWS = 2000


@dataclass(frozen=True, slots=True)
class LoadedRows:
    """What a file holds.

    Attributes:
        rows: in the file's order; for a source without its exact duplicates.
        read: rows and bad lines together.
        duplicates: rows whose normalised text an earlier row has.
        conflicts: those of them whose gold differs from that row's.
        bad_lines: lines that cannot be used; `first_bad` is the first of them.
        columns: the file's columns.
    """

    where: str
    rows: RowSpool
    read: int
    duplicates: int
    conflicts: int
    bad_lines: int
    first_bad: BadLine | None
    columns: tuple[str, ...]

    @property
    def has_gold(self) -> bool:
        return bool((self.rows.classes >= 0).any())


class Loader:
    """Reads files of rows in the same way.

    Args:
        maker: what makes a row of a record.
        bad: where bad lines go.
        new_spool: an empty place for a file's rows.
    """

    def __init__(self, maker: RowMaker, bad: BadLines, new_spool: Callable[[], RowSpool], progress: Progress) -> None:
        self._maker = maker
        self._bad = bad
        self._new_spool = new_spool
        self._progress = progress

    def load_source(self, path: Path, *, gold_is_elsewhere: bool) -> LoadedRows:
        """The source: each text once (its first row, with the gold of the first that has one).

        Args:
            gold_is_elsewhere: a given test set has gold, so that the source need not have the column.

        Raises DataError where the file cannot be read, a column is missing, or no line can be used.
        """
        columns = self._maker.columns
        required = [column for column in columns.keys if not (gold_is_elsewhere and column == columns.gold)]
        return self._load(path, required, is_given=False)

    def load_given(self, path: Path) -> LoadedRows:
        """A given set, as it is: duplicates are counted and kept, ids, groups and times may be missing.

        Raises as `load_source`.
        """
        text = self._maker.columns.text
        return self._load(path, () if text is None else (text,), is_given=True)

    def _load(self, path: Path, required: Collection[str], *, is_given: bool) -> LoadedRows:
        columns = self._maker.columns
        source = read_source(path, [*columns.keys, *columns.other_gold])
        seen: dict[str, None] = dict.fromkeys(source.columns or ())
        if source.columns is not None:
            check_columns(columns, source, seen, _required(columns, required, seen))
        bad_before = len(self._bad.records)
        first_of: dict[int, int] = {}
        line_of: dict[str | int, int] = {}
        rows = self._new_spool()
        read = duplicates = conflicts = 0
        first_bad: BadLine | None = None
        for item in self._made(source, seen, timed=not is_given):
            read += 1
            if isinstance(item, MadeRow) and item.own_id and item.row.id in line_of:
                reason = f"the id {item.row.id!r} was already used in line {line_of[item.row.id]}"
                item = BadLine(item.number, reason)
            if isinstance(item, BadLine):
                self._bad.add(source.where, item)
                first_bad = first_bad or item
                continue
            row, key = item.row, text_key(item.row.text)
            first = first_of.setdefault(key, len(rows))
            if first < len(rows):
                duplicates += 1
                gold = rows.gold(first)
                conflicts += None not in (row.gold, gold) and row.gold != gold
                if not is_given:
                    rows.set_gold(first, gold if gold is not None else row.gold)
                    continue
            line_of.setdefault(row.id, item.number)
            rows.append(row, key, item.time)
        if source.columns is None and seen:
            check_columns(columns, source, seen, _required(columns, required, seen))
        if not len(rows):
            raise self._nothing(source, read, bad_before)
        bad_lines = len(self._bad.records) - bad_before
        return LoadedRows(source.where, rows, read, duplicates, conflicts, bad_lines, first_bad, tuple(seen))

    def _made(self, source: Source, seen: dict[str, None], *, timed: bool) -> Iterator[MadeRow | BadLine]:
        number = 0
        for number, record in enumerate(source.records, start=1):
            if number % PROGRESS_ROWS == 0:
                self._progress.advance(number, max(number, source.rows or 0))
            if isinstance(record, BadLine):
                yield record
                continue
            if source.columns is None:
                seen.update(dict.fromkeys(record.values))
            yield self._maker.make(record, source.class_names, timed=timed)
        if number:
            self._progress.advance(number, number)

    def _nothing(self, source: Source, read: int, bad_before: int) -> DataError:
        if not read:
            return DataError("the file holds no rows", where=source.where, hint="check what should have written it")
        first = self._bad.records[bad_before]
        hint = "mend the file, or set data.fields and data.gold_values to what it holds"
        if self._maker.columns.text is None:
            hint = "set data.fields.text to the column that holds the text"
        message = f"none of its {read:,} lines can be used; the first: {first['reason']}"
        return DataError(message, where=f"{source.where}:{first['line']}", hint=hint)


def _required(columns: Columns, required: Collection[str], present: Collection[str]) -> list[str]:
    """The required columns, with gold under the name this file gives it."""
    return [column if column != columns.gold else columns.gold_among(present) or column for column in required]
