"""CSV, in whatever dialect it comes.

The delimiter, the quote and how a quote is escaped are read off the beginning of the file. `csv.Sniffer` is not
used: it guesses from character counts, and texts full of commas mislead it; a header that has the wanted columns
does not.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mlxdistill.data.source import Source
from mlxdistill.errors import DataError
from mlxdistill.tasks.lines import MOST_LINE_BYTES, BadLine, Line, Record, bounded_lines, open_file

DELIMITERS = (",", ";", "\t", "|")
SAMPLE_BYTES = 2**16


@dataclass(frozen=True, slots=True)
class Dialect:
    delimiter: str
    quote: str
    backslash_escapes: bool
    space_after_delimiter: bool


class _TooLong(Exception):
    pass


class _DecodedLines:
    """Lines as text for `csv.reader`, which goes on after an exception because this is no generator.

    Bytes that are not UTF-8 become lone surrogates, so that the record they are in can be refused and no other.
    """

    def __init__(self, file: BinaryIO, where: str) -> None:
        self._lines = bounded_lines(file, where)
        self.number = 0
        self.ended = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines, None)
        if line is None:
            self.ended = True
            raise StopIteration
        self.number = line.number
        if isinstance(line, Line):
            return line.content.decode("utf-8", "surrogateescape")
        raise _TooLong(line.reason)


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
        lines = _DecodedLines(file, str(path))
        reader = csv.reader(
            lines,
            delimiter=dialect.delimiter,
            quotechar=dialect.quote,
            doublequote=not dialect.backslash_escapes,
            escapechar="\\" if dialect.backslash_escapes else None,
            skipinitialspace=dialect.space_after_delimiter,
        )
        header_is_next = True
        while True:
            number = lines.number + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except (_TooLong, csv.Error) as error:
                yield BadLine(number, _reason(error))
                continue
            if not any(field.strip() for field in fields):
                continue
            if header_is_next:
                header_is_next = False
                if names is None:
                    yield _header(path, number, fields)
                    return
            elif names is not None:
                yield _record(number, fields, names, lines)


def _header(path: Path, number: int, fields: list[str]) -> Record:
    names = [field.strip() for field in fields]
    twice = {name for name in names if names.count(name) > 1 and name}
    if twice:
        raise DataError(
            f"two columns are named {min(twice)[:40]!r}", where=f"{path}:{number}", hint="rename one of them"
        )
    return Record(number, dict.fromkeys(names, ""))


def _record(number: int, fields: list[str], names: tuple[str, ...], lines: _DecodedLines) -> Record | BadLine:
    if lines.ended:
        return BadLine(number, f"a quote is never closed; what follows is lost, to line {lines.number}")
    if len(fields) != len(names):
        return BadLine(number, f"{len(fields)} fields, where the header has {len(names)}")
    try:
        "".join(fields).encode("utf-8")
    except UnicodeEncodeError:
        return BadLine(number, "not valid UTF-8")
    return Record(number, dict(zip(names, fields, strict=True)))


def _reason(error: Exception) -> str:
    """Without what `csv` quotes from the line."""
    return str(error) if isinstance(error, _TooLong) else f"not CSV: {str(error).split(';')[0]}"
