"""Files of other people's lines, read one bounded line at a time.

One bad line must not cost the other million, so a line that cannot be used becomes a `BadLine` among the
records and the reader goes on. No line is held beyond `MOST_LINE_BYTES`: a file without line ends would
otherwise fill the memory. What is wrong is said without the line's own text, which is private.
"""

from __future__ import annotations

import difflib
import json
import math
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from mlxdistill.errors import DataError
from mlxdistill.tasks.classification import scalar_text

MOST_LINE_BYTES = 16 * 2**20
MOST_ID_CHARACTERS = 200
MOST_NAME_CHARACTERS = 40
MOST_NAMES_SHOWN = 20
BAD_LINES_SHOWN = 20

_DRAIN_BYTES = 2**20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
# How files begin that hold no lines of text, whatever their names end in.
_OTHER_KINDS = {
    b"\x1f\x8b": ("compressed with gzip", "unpack it: gzip -d"),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", "unpack it: zstd -d"),
    b"\xfd7zXZ": ("compressed with xz", "unpack it: xz -d"),
    b"BZh91AY&SY": ("compressed with bzip2", "unpack it: bzip2 -d"),
    b"PK\x03\x04": ("a ZIP archive or a spreadsheet", "unpack it, or save the sheet as CSV in UTF-8"),
    b"PAR1": ("a Parquet file", "name it .parquet"),
}


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line (or row of a table), counted from 1, that cannot be used, and why."""

    number: int
    reason: str


@dataclass(slots=True)
class BadLines:
    """The lines put aside, over all files. With `strict`, the first one raises DataError."""

    strict: bool
    records: list[dict[str, Any]] = field(default_factory=list)

    def add(self, where: str, bad: BadLine) -> None:
        if self.strict:
            raise DataError(bad.reason, where=f"{where}:{bad.number}", hint="mend the line, or leave out --strict")
        self.records.append({"file": where, "line": bad.number, "reason": bad.reason})

    @property
    def first(self) -> tuple[str, ...]:
        """The first of them, as `file:line reason`."""
        return tuple(f"{bad['file']}:{bad['line']} {bad['reason']}" for bad in self.records[:BAD_LINES_SHOWN])

    def note(self, listed_in: str) -> str:
        """What the user should know where there are any: how many, the first, and the file that lists them all."""
        return f"lines that cannot be used: {len(self.records):,} ({listed_in}); the first: {self.first[0]}"


@dataclass(frozen=True, slots=True)
class Line:
    number: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """A line (or row of a table), counted from 1, as columns and values."""

    number: int
    values: Mapping[str, Any]


def open_file(path: Path) -> BinaryIO:
    """The file, open for reading bytes.

    Raises DataError where it is missing, empty, a folder, a pipe, a device or not permitted.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():  # opening a pipe would wait for ever
            hint = "write its rows to a file, and name that"
            raise DataError("no file, but a pipe or device, which cannot be read twice", where=str(path), hint=hint)
        file = path.open("rb")
    except FileNotFoundError as error:
        raise DataError("no such file", where=str(path), hint=_nearest_file(path)) from error
    except IsADirectoryError as error:
        raise DataError(
            "a folder, where a file was expected", where=str(path), hint="name the file inside it"
        ) from error
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise DataError(
            f"cannot be read: {reason}", where=str(path), hint="check the path and its permissions"
        ) from error
    if path.is_file() and path.stat().st_size == 0:
        file.close()
        raise DataError("the file is empty", where=str(path), hint="check what should have written it")
    return file


def bounded_lines(
    file: BinaryIO, where: str, most_bytes: int = MOST_LINE_BYTES, *, after: int = 0
) -> Iterator[Line | BadLine]:
    """The file's lines with their ends, without a byte order mark.

    Args:
        after: how many lines of the file have been read already.

    Raises DataError for UTF-16, and for what is no text at all.
    """
    number = after
    while content := file.readline(most_bytes + 1):
        number += 1
        if number == 1:
            _check_kind(content, where)
            content = content.removeprefix(_BYTE_ORDER_MARK)
        if len(content) > most_bytes and not content.endswith(b"\n"):
            while (rest := file.readline(_DRAIN_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield BadLine(number, f"longer than {most_bytes:,} bytes")
        else:
            yield Line(number, content)


def _check_kind(beginning: bytes, where: str) -> None:
    """Raises DataError where no line of the file could be read, with the reason that all of them have."""
    if beginning.startswith(_UTF_16_MARKS) or any(
        beginning[start:8:2] == bytes(4) and 0 not in beginning[1 - start : 8 : 2] for start in (0, 1)
    ):
        raise DataError("the file is UTF-16", where=where, hint="save it as UTF-8")
    for mark, (kind, hint) in _OTHER_KINDS.items():
        if beginning.startswith(mark):
            raise DataError(f"the file is {kind}, and not lines of text", where=where, hint=hint)


def json_records(file: BinaryIO, where: str, most_bytes: int = MOST_LINE_BYTES) -> Iterator[Record | BadLine]:
    """One record for each line that is a JSON object; lines of white space are passed over."""
    for line in bounded_lines(file, where, most_bytes):
        if isinstance(line, BadLine):
            yield line
        elif line.content.strip():
            values = _json_object(line.content)
            if isinstance(values, str) and line.number == 1 and _ends_in_cr_alone(line.content):
                raise DataError("its lines end in CR alone", where=where, hint="save it with LF or CRLF line ends")
            yield BadLine(line.number, values) if isinstance(values, str) else Record(line.number, values)


def _ends_in_cr_alone(content: bytes) -> bool:
    """Whether a file that is this single line has others, told apart as no reader does any more."""
    return not content.endswith(b"\n") and b"\r" in content.rstrip()


def _json_object(content: bytes) -> dict[str, Any] | str:
    """The object, or what is wrong with the line."""
    if b"\0" in content:
        return "holds a NUL byte"
    try:
        value = _DECODER.decode(content.decode("utf-8").rstrip())
    except UnicodeDecodeError as error:
        return f"not valid UTF-8 at byte {error.start + 1}"
    except json.JSONDecodeError as error:
        return f"not JSON: {error.msg} at character {error.pos + 1}"
    except RecursionError:
        return "nested too deeply"
    except ValueError as error:
        return "not JSON: " + ("a number of too many digits" if "digits" in str(error) else str(error))
    return value if isinstance(value, dict) else f"{kind_of(value)}, where a JSON object was expected"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def kind_of(value: Any) -> str:
    """What JSON calls the value's type, with its article."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an object" if isinstance(value, Mapping) else "a list"


def text_fault(value: Any, what: str = "text") -> str | None:
    """Why the value cannot be read as text by a model, or None."""
    if value is None:
        return f"the {what} is missing"
    if not isinstance(value, str):
        return f"the {what} is {kind_of(value)}, not a string"
    if not value.strip():
        return f"the {what} is empty"
    if "\0" in value:
        return f"the {what} holds a NUL character"
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return f"the {what} holds half a surrogate pair"
    return None


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: null, NaN (how tables write null), or white space."""
    return (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or (isinstance(value, str) and not value.strip())
    )


def id_fault(value: Any) -> str | None:
    """Why the value cannot be an id, or None."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return f"the id is {kind_of(value)}, not a string or number"
    if len(scalar_text(value)) > MOST_ID_CHARACTERS:
        return f"the id is longer than {MOST_ID_CHARACTERS} characters"
    return text_fault(scalar_text(value), "id")


def wrong_column(column: str, key: str, columns: Iterable[str], where: str) -> DataError:
    """The error for a column that a configuration names (under `key`) and the file does not have.

    Names too long for a column's are not shown: a file without a header has text in its place.
    """
    names = list(columns)
    if any(len(name) > MOST_NAME_CHARACTERS for name in names):
        return DataError(
            f"no column {column!r}, and its {len(names)} columns do not look like names",
            where=where,
            hint="the first line of a CSV file holds the names of its columns",
        )
    shown = ", ".join(names[:MOST_NAMES_SHOWN]) + (", ..." if len(names) > MOST_NAMES_SHOWN else "")
    folded = {name.casefold(): name for name in names}
    nearest = difflib.get_close_matches(column.casefold(), folded, n=1)
    hint = f"did you mean {folded[nearest[0]]!r}? set {key}" if nearest else f"set {key} to one of them"
    return DataError(f"no column {column!r}; it has: {shown or 'none'}", where=where, hint=hint)


def _nearest_file(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f"there is no folder {path.parent} either"
    nearest = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean {path.with_name(nearest[0])}?" if nearest else "check the path"
