"""Tables: Parquet files, and folders that `datasets.save_to_disk` wrote.

Such a folder holds Arrow streams and a `state.json` that lists them, so it is read as what it is: importing `datasets`
would take seconds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from mlxdistill.data.source import Source
from mlxdistill.errors import DataError
from mlxdistill.tasks.lines import BadLine, Record, open_file

LOG_COLUMNS = frozenset({"request", "response", "messages"})
BATCH_ROWS = 1024


def parquet_source(path: Path, wanted: Collection[str]) -> Source:
    """The file's `wanted` columns, and those of a request log. Raises DataError where it is damaged."""
    import pyarrow
    import pyarrow.parquet

    open_file(path).close()
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise _unreadable(path, "Parquet", error) from error
    columns = tuple(file.schema_arrow.names)
    _check_names(columns, str(path))
    needed = [name for name in columns if name in wanted or name in LOG_COLUMNS]

    def batches() -> Iterator[Any]:
        yield from file.iter_batches(batch_size=BATCH_ROWS, columns=needed)

    return Source(str(path), columns, file.metadata.num_rows, _records(path, "Parquet", batches()))


def dataset_source(path: Path, wanted: Collection[str]) -> Source:
    """The rows of a saved `Dataset`, or of the `train` split of a saved `DatasetDict`.

    Raises DataError where the folder is none of them, has no such split, or is damaged.
    """
    import pyarrow
    import pyarrow.ipc

    folder = _split_folder(path)
    files = _data_files(folder)
    features = _json(folder / "dataset_info.json").get("features") or {}
    needed = [name for name in features if name in wanted or name in LOG_COLUMNS]
    class_names = {
        name: tuple(map(str, feature["names"]))
        for name, feature in features.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
    }

    def batches() -> Iterator[Any]:
        for file in files:
            with pyarrow.memory_map(str(file)) as mapped, pyarrow.ipc.open_stream(mapped) as stream:
                for batch in stream:
                    chosen = batch.select(needed)
                    for start in range(0, chosen.num_rows, BATCH_ROWS):
                        yield chosen.slice(start, BATCH_ROWS)

    records = _records(folder, "datasets", batches())
    return Source(str(folder), tuple(features), _count_rows(files), records, class_names)


def _count_rows(files: list[Path]) -> int | None:
    """Of Arrow streams, without reading a value; None where one is damaged, which reading it will say."""
    import pyarrow
    import pyarrow.ipc

    rows = 0
    try:
        for file in files:
            with pyarrow.memory_map(str(file)) as mapped, pyarrow.ipc.open_stream(mapped) as stream:
                rows += sum(batch.num_rows for batch in stream)
    except (pyarrow.ArrowException, OSError):
        return None
    return rows


def dataset_files(path: Path) -> list[Path]:
    """The files that hold what `dataset_source` reads, in a fixed order."""
    folder = _split_folder(path)
    files = [folder / "dataset_info.json", *sorted(_data_files(folder))]
    for file in files:
        open_file(file).close()
    return files


def _data_files(folder: Path) -> list[Path]:
    state = folder / "state.json"
    try:
        return [folder / part["filename"] for part in _json(state)["_data_files"]]
    except (KeyError, TypeError) as error:
        raise _unreadable(state, "datasets", error) from error


def _split_folder(path: Path) -> Path:
    _check_open(path)
    if (path / "dataset_dict.json").is_file():
        splits = [str(name) for name in _json(path / "dataset_dict.json").get("splits", [])]
        if "train" not in splits:
            hint = f"name one of its splits: {', '.join(str(path / name) for name in splits)}"
            raise DataError("the datasets folder has no split 'train'", where=str(path), hint=hint)
        path = path / "train"
        _check_open(path)
    if not (path / "state.json").is_file() or not (path / "dataset_info.json").is_file():
        hint = "name a file in it, or a folder that datasets' save_to_disk wrote"
        raise DataError("a folder, and not a saved datasets folder", where=str(path), hint=hint)
    return path


def _check_open(folder: Path) -> None:
    """Before its files are looked for: in a closed folder each seems to be missing, or raises."""
    if folder.is_dir() and not os.access(folder, os.X_OK):
        raise _unreadable(folder, "datasets", PermissionError())


def _records(path: Path, kind: str, batches: Iterator[Any]) -> Iterator[Record | BadLine]:
    import pyarrow

    number = 0
    while True:
        try:
            batch = next(batches, None)
        except (pyarrow.ArrowException, OSError) as error:
            raise _unreadable(path, kind, error) from error
        if batch is None:
            return
        for row in _rows(batch):
            number += 1
            yield BadLine(number, "not valid UTF-8") if row is None else Record(number, row)


def _rows(batch: Any) -> Iterator[dict[str, Any] | None]:
    """The batch's rows; None for a row with a string that is not UTF-8."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for index in range(batch.num_rows):
            try:
                yield batch.slice(index, 1).to_pylist()[0]
            except UnicodeDecodeError:
                yield None


def _check_names(columns: tuple[str, ...], where: str) -> None:
    twice = {name for name in columns if columns.count(name) > 1}
    if twice:
        raise DataError(f"two columns are named {min(twice)!r}", where=where, hint="rename one of them")


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, "datasets", error) from error
    if not isinstance(value, dict):
        raise _unreadable(path, "datasets", None)
    return value


def _unreadable(path: Path, kind: str, error: Exception | None) -> DataError:
    if isinstance(error, PermissionError):
        hint = "check the path and its permissions"
        return DataError("cannot be read: permission denied", where=str(path), hint=hint)
    return DataError(
        f"not a readable {kind} file", where=str(path), hint="it is damaged or of another kind; write it anew"
    )
