#!/usr/bin/env python3
"""How fast the label store is, beside plain SQLite.

    python scripts/bench_store.py [--rows 100000 1000000] [--labels 2] [--wave 64] [--folder DIR]

The store is filled first. `add`: rows a second of `LabelStore.add` from then on, a wave a commit, and of a bare
`executemany` of ready records into the same table with the same commits, in turn within one run: the median of the
ratios and their spread. Then the seconds it takes to find out which of a piece of 8,192 rows are answered, to read
these answers, to count everything, to export every answer as JSON, and to replace all answers of a labeller by others
made of them; and the most memory this process had. The rows that are added come in the order of hashes, which is the
hardest one for the table. Prints JSON, and on stderr each figure when it is known.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import random
import sqlite3
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from mlxdistill.platform.memory import peak_memory_bytes
from mlxdistill.rundir.layout import RunDir
from mlxdistill.store import LabelReader, LabelStore
from mlxdistill.store.opening import open_to_write
from mlxdistill.store.records import INSERT, to_records
from mlxdistill.tasks.protocols import Answer
from mlxdistill.teacher.label import ROWS_PER_PIECE

ROUNDS = 8
LOOK_UPS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000])
    parser.add_argument("--labels", type=int, default=2)
    parser.add_argument("--wave", type=int, default=64, help="answers in a commit")
    parser.add_argument("--without-plain", action="store_true", help="halves the time that many rows take")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: the system's for temporary files")
    arguments = parser.parse_args()
    results = []
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            plain = None if arguments.without_plain else Path(folder) / "plain.sqlite"
            results.append(bench(Path(folder), rows, arguments.labels, arguments.wave, plain))
    print(json.dumps(results, indent=2))


def bench(folder: Path, rows: int, labels: int, wave: int, plain: Path | None) -> dict[str, Any]:
    names = [f"label {number}" for number in range(labels)]
    run = RunDir(folder)
    figures: dict[str, Any] = {"rows": rows, "labels": labels, "wave": wave}

    def tell(**found: Any) -> None:
        figures.update(found)
        print(json.dumps(found), file=sys.stderr, flush=True)

    for path in filter(None, (run.labels, plain)):
        with LabelStore(path) as store:
            store.labeller("teacher", "prompt", names)
        fill(path, rows, labels)
    tell(add=add(run, names, wave, plain))
    with LabelStore(run.labels) as store:
        pieces = [dict(drawn(rows, seed)) for seed in range(LOOK_UPS)]
        look_up = [timed(partial(store.answered, 1, piece)) for piece in pieces]
        assert all(len(found) == ROWS_PER_PIECE for _, found in look_up)
        tell(piece_rows=ROWS_PER_PIECE, piece_answered_seconds=spread([seconds for seconds, _ in look_up]))
        tell(piece_answers_seconds=spread([timed(partial(read_all, store, piece))[0] for piece in pieces]))
    with LabelReader(run.labels) as reader:
        seconds, found = timed(lambda: reader.statistics(reader.labellers()[0]))
        assert found.answers == found.rows == rows + ROUNDS * ROWS_PER_PIECE
        tell(statistics_seconds=round(seconds, 3), file_bytes_per_answer=run.labels.stat().st_size // found.answers)
        seconds, lines = timed(lambda: export(reader))
        assert lines == found.answers
        tell(export_seconds=round(seconds, 3))
    with LabelStore(run.labels) as store:
        made = store.labeller("made of it", "prompt", names)
        seconds, _ = timed(lambda: store.replace(made, copied(store)))
        tell(replace_all_seconds=round(seconds, 3), peak_memory_bytes=peak_memory_bytes())
    return figures


def fill(path: Path, rows: int, labels: int) -> None:
    """Not measured: rows in the order of their ids, straight into the table."""
    shares = struct.pack(f"<{labels}f", *[1 / labels] * labels)
    records = ((1, *filled(place, rows), shares, "answered", None, 0.01, None, None) for place in range(rows))
    query = INSERT.replace("VALUES (?, ?, ?, ?, ?", "VALUES (?, ?, 0, ?, 0").replace("OR REPLACE ", "")
    with contextlib.closing(open_to_write(path)) as connection:
        while part := list(itertools.islice(records, 100_000)):
            connection.execute("BEGIN")
            connection.executemany(query, part)
            connection.execute("COMMIT")


def filled(place: int, rows: int) -> tuple[str, str]:
    """The id and hash of a row that `fill` puts there."""
    row_id = f"{place * (2**64 // rows):016x}"
    return row_id, row_id * 2


def drawn(rows: int, seed: int) -> Iterator[tuple[str, str]]:
    return (filled(place, rows) for place in random.Random(seed).sample(range(rows), ROWS_PER_PIECE))


def add(run: RunDir, names: list[str], wave: int, plain: Path | None) -> dict[str, Any]:
    """Both stores get the same rows, a round of the one after a round of the other."""
    ours: list[float] = []
    bare: list[float] = []
    shares = tuple(1 / len(names) for _ in names)
    with LabelStore(run.labels) as store, contextlib.ExitStack() as opened:
        connection = None if plain is None else opened.enter_context(contextlib.closing(open_to_write(plain)))
        for turn in range(ROUNDS):
            digests = (hashlib.sha256(f"{turn} {row}".encode()).hexdigest() for row in range(ROWS_PER_PIECE))
            hashes = {digest[:16]: digest[:32] for digest in digests}
            answers = [Answer(row_id, names[0], shares, seconds=0.01) for row_id in hashes]
            waves = [answers[place : place + wave] for place in range(0, len(answers), wave)]
            pair: list[tuple[list[float], Callable[[Any], None], list[Any]]] = [
                (ours, partial(store.add, 1, content_hashes=hashes), waves)
            ]
            if connection is not None:
                records = [list(to_records(1, names, part, hashes)) for part in waves]
                pair.append((bare, partial(commit, connection), records))
            for times, put, groups in pair if turn % 2 else reversed(pair):
                times.append(timed(partial(put_all, put, groups))[0] / len(answers))
    figures: dict[str, Any] = {"rows_per_second": spread([1 / each for each in ours])}
    if bare:
        figures["plain_rows_per_second"] = spread([1 / each for each in bare])
        figures["share_of_plain"] = spread([plain / own for own, plain in zip(ours, bare, strict=True)])
    return figures


def put_all(put: Callable[[Any], None], groups: list[Any]) -> None:
    for group in groups:
        put(group)


def commit(connection: sqlite3.Connection, records: list[tuple[Any, ...]]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(INSERT, records)
    connection.execute("COMMIT")


def copied(store: LabelStore) -> Iterator[tuple[list[Answer], dict[str, str]]]:
    for answer, digest in store.answers_with_hashes(1):
        yield [answer], {answer.row_id: digest}


def read_all(store: LabelStore, piece: dict[str, str]) -> list[Answer]:
    return list(store.answers(1, piece))


def export(reader: LabelReader) -> int:
    lines = 0
    with open(os.devnull, "w", encoding="utf-8") as file:
        for answer in reader.answers(reader.labellers()[0]):
            file.write(json.dumps({"id": answer.row_id, "label": answer.label, "probabilities": answer.probabilities}))
            lines += 1
    return lines


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
    }


if __name__ == "__main__":
    main()
