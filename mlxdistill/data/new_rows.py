"""Rows that a finished student is to label: read as they come, from a file or standard input, never all at once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mlxdistill.data.fields import Columns, Unusable, check_columns, usable_id, usable_text
from mlxdistill.data.readers import read_source
from mlxdistill.data.source import Source
from mlxdistill.errors import DataError
from mlxdistill.tasks.lines import BadLine, Record, json_records, wrong_column
from mlxdistill.tasks.logs import is_logged
from mlxdistill.tasks.rows import Row, content_id

STANDARD_INPUT = "standard input"
USUAL_TEXT_COLUMN = "text"


def read_rows_to_label(
    path: Path | None, text_column: str | None, id_column: str | None, *, stream: BinaryIO | None = None
) -> Iterator[Row | BadLine]:
    """The rows of a file, or of JSON lines on standard input where `path` is None.

    Args:
        text_column: the column that holds the text; None: the last user message of a logged request, else the
            column `text`.
        id_column: the column that holds the id; rows without one get a hash of their text. Ids may repeat.
        stream: read instead of standard input.

    Raises DataError where the file cannot be read, its first row has no text column, or it has no rows.
    """
    wanted = {column for column in (text_column or USUAL_TEXT_COLUMN, id_column) if column is not None}
    if path is None:
        lines = json_records(stream if stream is not None else sys.stdin.buffer, STANDARD_INPUT)
        source = Source(STANDARD_INPUT, None, None, lines)
    else:
        source = read_source(path, wanted)
    return _rows(source, text_column, id_column)


def _rows(source: Source, text_column: str | None, id_column: str | None) -> Iterator[Row | BadLine]:
    found: bool | None = None
    for record in source.records:
        if isinstance(record, BadLine):
            found = found or False
            yield record
            continue
        if not found:
            _check_first(source, record, text_column)
            found = True
        column = text_column
        if column is None and not is_logged(record.values):
            column = USUAL_TEXT_COLUMN
        try:
            text = usable_text(record, column)
            yield Row(usable_id(record, id_column) or content_id(text), text)
        except Unusable as error:
            yield BadLine(record.number, str(error))
    if found is None:
        raise DataError("there are no rows", where=source.where, hint="give at least one row")


def _check_first(source: Source, record: Record, text_column: str | None) -> None:
    names = source.columns if source.columns is not None else tuple(record.values)
    if text_column is None and not is_logged(record.values) and USUAL_TEXT_COLUMN not in names:
        raise wrong_column(USUAL_TEXT_COLUMN, "data.fields.text", names, source.where)
    if text_column is not None:
        check_columns(Columns(text_column), source, names, (text_column,))
