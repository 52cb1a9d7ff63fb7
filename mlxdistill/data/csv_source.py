"""CSV, in whatever dialect it comes.

The delimiter, the quote and how a quote is escaped are read off the beginning of the file. `csv.Sniffer` is not
used: it guesses from character counts, and texts full of commas mislead it; a header that has the wanted columns
does not.

A quote that is never closed would swallow the rest of the file, and one that a later text's quote closes by chance the
rows up to there. So quotes that go over a line end must be as the format has them: closed just before a delimiter or a
line end. Where they are not, the row that opened the quote is bad, and reading goes on at the line after it.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mlxdistill.data.source import Source
from mlxdistill.errors import DataError
from mlxdistill.tasks.lines import MOST_LINE_BYTES, BadLine, Record, bounded_lines, open_file

DELIMITERS = (",", ";", "\t", "|")
SAMPLE_BYTES = 2**16

_OPEN_QUOTE = "a quote is opened and not closed"


@dataclass(frozen=True, slots=True)
class Dialect:
    delimiter: str
    quote: str
    backslash_escapes: bool
    space_after_delimiter: bool

    def settings(self, *, strict: bool) -> dict[str, Any]:
        """The arguments of `csv.reader`. With `strict`, a quote is closed before a delimiter or a line end only."""
        return {
            "delimiter": self.delimiter,
            "quotechar": self.quote,
            "doublequote": not self.backslash_escapes,
            "escapechar": "\\" if self.backslash_escapes else None,
            "skipinitialspace": self.space_after_delimiter,
            "strict": strict,
        }


class _TooLong(Exception):
    pass


class _Lines:
    """Lines as text for `csv.reader`, which goes on after an exception because this is no generator.

    Bytes that are not UTF-8 become lone surrogates, so that the record they are in can be refused and no other.

    Attributes:
        first, number: the first line of the record, and the last that was read, counted from 1.
        text: the last line.
        ended: whether there are no more.
    """

    def __init__(self, file: BinaryIO, where: str) -> None:
        self._file = file
        self._where = where
        self._go_to(0, 0)
        self.begin()

    def begin(self) -> None:
        """The next line is the first of a record."""
        self._start = self._file.tell()
        self._bytes = 0
        self.first = self.number + 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines, None)
        if line is None:
            self.ended = True
            raise StopIteration
        self.number = line.number
        if isinstance(line, BadLine):
            raise _TooLong(line.reason)
        self._bytes += len(line.content)
        if self._bytes > MOST_LINE_BYTES and self.number > self.first:
            raise _TooLong(f"longer than {MOST_LINE_BYTES:,} bytes")
        self.text = line.content.decode("utf-8", "surrogateescape")
        return self.text

    def resume_after_opener(self, reopens: Callable[[str], bool]) -> int:
        """Goes back to after the line of the record that opened the quote which is still open.

        Lines are read again, not kept: a record may have millions.

        Args:
            reopens: whether a line that begins inside quotes closes them and opens others.

        Returns that line's number.
        """
        last = self.number if self.ended else self.number - 1
        self._go_to(self._start, self.first - 1)
        opener, after = self.first, self._start
        for text in self:
            if self.number == self.first or reopens(text):
                opener, after = self.number, self._file.tell()
            if self.number == last:
                break
        self._go_to(after, opener)
        return opener

    def _go_to(self, offset: int, lines_before: int) -> None:
        self._file.seek(offset)
        self._lines = bounded_lines(self._file, self._where, after=lines_before)
        self._bytes = 0
        self.number = lines_before
        self.text = ""
        self.ended = False


def csv_source(path: Path, wanted: Collection[str]) -> Source:
    """The file's rows under the names in its header. `wanted` columns tell the right delimiter from the wrong ones.

    Raises DataError where there is no header or no row.
    """
    with open_file(path) as file:
        sample = file.read(SAMPLE_BYTES).removeprefix(b"\xef\xbb\xbf")
        count = sample.count(b"\n") + sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(2**20), b""))
    if b"\r" in sample and b"\n" not in sample:
        raise DataError("its lines end in CR alone", where=str(path), hint="save it with LF or CRLF line ends")
    dialect = find_dialect(sample.decode("utf-8", "replace"), wanted)
    header = next(_records(path, dialect, None), None)
    if not isinstance(header, Record):
        where = f"{path}:{header.number}" if header else str(path)
        raise DataError(f"no header: {header.reason if header else 'nothing but white space'}", where=where)
    names = tuple(header.values)
    return Source(str(path), names, count, _records(path, dialect, names))


def find_dialect(sample: str, wanted: Collection[str]) -> Dialect:
    """The dialect of a CSV file that begins with `sample`."""
    first = next((line for line in sample.splitlines() if line.strip()), "")
    quote = "'" if first.startswith("'") and first.rstrip().endswith("'") else '"'
    names = {mark: [name.strip() for name in _split(first, mark, quote)] for mark in DELIMITERS}
    delimiter = max(DELIMITERS, key=lambda mark: (len(set(wanted) & set(names[mark])), len(names[mark])))
    escaped = rf"\\{quote}(?!{re.escape(delimiter)}|\r?\n|$)"
    return Dialect(
        delimiter,
        quote,
        backslash_escapes=quote * 2 not in sample and re.search(escaped, sample) is not None,
        space_after_delimiter=delimiter in first and first.count(delimiter) == first.count(delimiter + " "),
    )


def _split(line: str, delimiter: str, quote: str) -> list[str]:
    return next(csv.reader(io.StringIO(line), delimiter=delimiter, quotechar=quote, skipinitialspace=True), [])


def _records(path: Path, dialect: Dialect, names: tuple[str, ...] | None) -> Iterator[Record | BadLine]:
    """The records after the header; without `names`, the header itself: a record with a value of "" for each name."""
    csv.field_size_limit(MOST_LINE_BYTES)  # for the whole process; the default refuses texts over 131,072 characters
    with open_file(path) as file:
        lines = _Lines(file, str(path))
        reader = csv.reader(lines, **dialect.settings(strict=True))
        header_is_next = True
        while True:
            lines.begin()
            number = lines.first
            try:
                fields = next(reader)
            except StopIteration:
                return
            except (_TooLong, csv.Error) as error:
                found = _mended(lines, dialect, error)
                if isinstance(found, BadLine):
                    yield found
                    continue
                fields = found
            if not any(field.strip() for field in fields):
                continue
            if header_is_next:
                header_is_next = False
                if names is None:
                    yield _header(path, number, fields)
                    return
            elif names is not None:
                yield _record(number, fields, names)


def _mended(lines: _Lines, dialect: Dialect, error: Exception) -> list[str] | BadLine:
    """The fields of a line with bare quotes inside quotes; else what is bad, with `lines` at what is read next."""
    number = lines.first
    if lines.ended or lines.number > number:
        opener = lines.resume_after_opener(lambda text: _reopens(text, dialect))
        place = f", in line {opener}" if opener > number else ""
        return BadLine(number, _OPEN_QUOTE + place)
    if isinstance(error, _TooLong):
        return BadLine(number, str(error))
    reader = csv.reader([lines.text, ""], **dialect.settings(strict=False))
    try:
        fields = next(reader)
    except csv.Error as fault:
        return BadLine(number, f"not CSV: {str(fault).split(' - ')[0]}")
    return fields if reader.line_num == 1 else BadLine(number, _OPEN_QUOTE)


def _reopens(text: str, dialect: Dialect) -> bool:
    return len(next(csv.reader([dialect.quote + text], **dialect.settings(strict=False)))) > 1


def _header(path: Path, number: int, fields: list[str]) -> Record:
    names = [field.strip() for field in fields]
    twice = {name for name in names if names.count(name) > 1 and name}
    if twice:
        raise DataError(
            f"two columns are named {min(twice)[:40]!r}", where=f"{path}:{number}", hint="rename one of them"
        )
    return Record(number, dict.fromkeys(names, ""))


def _record(number: int, fields: list[str], names: tuple[str, ...]) -> Record | BadLine:
    if len(fields) != len(names):
        return BadLine(number, f"{len(fields)} fields, where the header has {len(names)}")
    try:
        "".join(fields).encode("utf-8")
    except UnicodeEncodeError:
        return BadLine(number, "not valid UTF-8")
    return Record(number, dict(zip(names, fields, strict=True)))
