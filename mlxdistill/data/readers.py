"""One way to read rows, whatever the format; a new format is one more line in `_READERS`."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from mlxdistill.data.csv_source import csv_source
from mlxdistill.data.source import Source
from mlxdistill.data.table_source import dataset_files, dataset_source, parquet_source
from mlxdistill.errors import DataError
from mlxdistill.tasks.lines import BadLine, Record, json_records, open_file


def read_source(path: Path, wanted: Collection[str]) -> Source:
    """The rows of a file or a saved datasets folder.

    Args:
        wanted: the columns that will be used; others may be left out where the format allows it.

    Raises DataError where the path is missing, closed to this user, empty, damaged or of an unknown kind.
    """
    if os.path.isdir(path):
        return dataset_source(path, wanted)
    return _reader(path)(path, wanted)


def source_files(path: Path) -> list[Path]:
    """The files that hold the rows of `path`. Raises DataError as `read_source` does."""
    if os.path.isdir(path):
        return dataset_files(path)
    _reader(path)
    open_file(path).close()
    return [path]


def json_lines_source(path: Path, wanted: Collection[str]) -> Source:
    """The objects of a JSON lines file. Raises DataError where it cannot be read or is empty."""
    with open_file(path) as file:
        lines = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(2**20), b""))

    def records() -> Iterator[Record | BadLine]:
        with open_file(path) as file:
            yield from json_records(file, str(path))

    return Source(str(path), None, lines, records())


_READERS: dict[str, Callable[[Path, Collection[str]], Source]] = {
    ".jsonl": json_lines_source,
    ".ndjson": json_lines_source,
    ".csv": csv_source,
    ".tsv": csv_source,
    ".parquet": parquet_source,
}


def _reader(path: Path) -> Callable[[Path, Collection[str]], Source]:
    suffix = path.suffix.lower()
    if suffix in _READERS:
        return _READERS[suffix]
    if not os.path.exists(path):
        open_file(path).close()  # raises, with the reason and the nearest name
    kinds = f"give {', '.join(_READERS)} or a folder that datasets' save_to_disk wrote"
    if suffix == ".json":
        kinds = "write one JSON object a line and name the file .jsonl; a list: jq -c '.[]' FILE.json > FILE.jsonl"
    nearest = difflib.get_close_matches(suffix, _READERS, n=1)
    if suffix != ".json" and nearest:
        kinds = f"did you mean {nearest[0]}? {kinds}"
    raise DataError(
        f"the suffix {suffix!r} is of no known format" if suffix else "the file has no suffix",
        where=str(path),
        hint=kinds,
    )
