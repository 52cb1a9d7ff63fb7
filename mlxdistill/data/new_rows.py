"""Rows that a finished student is to label: read as they come, from a file or standard input, never all at once."""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from mlxdistill.data.fields import Columns, Unusable, check_columns, usable_id, usable_text
from mlxdistill.data.readers import read_source
from mlxdistill.data.source import Source
from mlxdistill.errors import DataError, Interrupted
from mlxdistill.tasks.lines import BadLine, Record, json_records, wrong_column
from mlxdistill.tasks.logs import is_logged
from mlxdistill.tasks.rows import Row, content_id

STANDARD_INPUT = "standard input"
USUAL_TEXT_COLUMN = "text"

Item = TypeVar("Item")


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
        records = json_records(stream, STANDARD_INPUT) if stream is not None else _standard_input()
        source = Source(STANDARD_INPUT, None, None, records)
    else:
        source = read_source(path, wanted)
    return _rows(source, text_column, id_column)


@dataclass(frozen=True, slots=True)
class _End:
    error: Exception | None


def batches_in_time(
    items: Iterator[Item], most: int, pause_seconds: float, stop_asked: Callable[[], bool]
) -> Iterator[tuple[Item, ...]]:
    """Items in batches of at most `most`, each without those that come more than `pause_seconds` after the one before.

    A thread reads them, at most `most` ahead, from now on; so an item that is there never waits for one that is not.

    Args:
        stop_asked: asked every `pause_seconds` while there is nothing.

    Raises what `items` raises, after the items before it; Interrupted.
    """
    arrived: queue.Queue[tuple[float, Item] | _End] = queue.Queue(most)

    def read() -> None:
        end = _End(None)
        try:
            for item in items:
                arrived.put((time.monotonic(), item))
        except Exception as error:
            end = _End(error)
        arrived.put(end)

    threading.Thread(target=read, name="input", daemon=True).start()
    return _batches(arrived, most, pause_seconds, stop_asked)


def _batches(
    arrived: queue.Queue[tuple[float, Item] | _End], most: int, pause_seconds: float, stop_asked: Callable[[], bool]
) -> Iterator[tuple[Item, ...]]:
    end: _End | None = None
    while end is None:
        batch: list[Item] = []
        wait = pause_seconds
        while len(batch) < most:
            try:
                found = arrived.get(timeout=wait)
            except queue.Empty:
                if stop_asked():
                    raise Interrupted("interrupted") from None
                break
            if isinstance(found, _End):
                end = found
                break
            when, item = found
            batch.append(item)
            wait = max(0.0, when + pause_seconds - time.monotonic())
        if batch:
            yield tuple(batch)
    if end.error is not None:
        raise end.error


def _standard_input() -> Iterator[Record | BadLine]:
    """Its lines, read apart from `sys.stdin`: Python closes that at exit, and cannot while a thread waits in it."""
    if sys.stdin is None:
        raise DataError("standard input is closed", hint="pipe rows into it, or name a file")
    try:
        descriptor = os.dup(sys.stdin.fileno())
    except (OSError, ValueError):  # something else stands in its place
        yield from json_records(sys.stdin.buffer, STANDARD_INPUT)
        return
    with os.fdopen(descriptor, "rb") as file:
        yield from json_records(file, STANDARD_INPUT)


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
