"""An answer as a record of the table `answers`, and back."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.token_logprobs import TokenLogprobs

COLUMNS = "row_id, sample, content_hash, label, probabilities, outcome, text, seconds, agreement, copied_from"
WITH_LOGPROBS = f"{COLUMNS}, logprobs"
INSERT = (
    f"INSERT OR REPLACE INTO answers (labeller, {COLUMNS}, logprobs_kept, logprobs)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
# Of the rows in temp.copies, with the hashes in temp.asked.
FORGET_COPIES = """
    DELETE FROM answers
    WHERE labeller = ? AND copied_from IS NOT NULL AND row_id IN (SELECT row_id FROM temp.copies)
"""
COPY = f"""
    INSERT OR REPLACE INTO answers (labeller, {COLUMNS}, logprobs_kept, logprobs)
    SELECT ?, own.row_id, given.sample, own.content_hash, given.label, given.probabilities, given.outcome, given.text,
        0.0, given.agreement, given.row_id, given.logprobs_kept, given.logprobs
    FROM temp.copies
    CROSS JOIN temp.asked AS own ON own.row_id = copies.row_id
    CROSS JOIN temp.asked AS other ON other.row_id = copies.source
    CROSS JOIN answers AS given
        ON given.labeller = ? AND given.row_id = other.row_id AND given.content_hash = other.content_hash
    WHERE NOT EXISTS (
        SELECT 1 FROM answers AS there
        WHERE there.labeller = ? AND there.row_id = own.row_id AND there.sample = given.sample
            AND there.content_hash = own.content_hash
    )
"""
COUNT_COPIES = """
    SELECT count(DISTINCT row_id) FROM answers CROSS JOIN temp.asked USING (row_id, content_hash)
    WHERE labeller = ? AND copied_from IS NOT NULL AND row_id IN (SELECT row_id FROM temp.copies)
"""
SETTLED = (0,)  # the sample of answers made of others, and of those used as they came the first
INSERT_MISSING = INSERT.replace("REPLACE", "IGNORE", 1)
RECORDS_PER_PAGE = 4096
IDS_PER_QUERY = 1000


def to_records(
    place: int, labels: Sequence[str], answers: Iterable[Answer], content_hashes: Mapping[str, str]
) -> Iterator[tuple[Any, ...]]:
    """What `INSERT` takes.

    Args:
        place: the number under which the answers are kept.
        content_hashes: row id -> hash of the text that was read.

    Raises KeyError for a row without a hash, or a label that is none of `labels`.
    """
    positions = {label: index for index, label in enumerate(labels)}
    pack = struct.Struct(f"<{len(labels)}f").pack
    for answer in answers:
        yield (
            place,
            answer.row_id,
            answer.sample,
            content_hashes[answer.row_id],
            None if answer.label is None else positions[answer.label],
            None if answer.probabilities is None else pack(*answer.probabilities),
            answer.outcome,
            answer.text,
            answer.seconds,
            answer.agreement,
            answer.copied_from,
            None if answer.logprobs is None else answer.logprobs.kept,
            None if answer.logprobs is None else answer.logprobs.packed,
        )


def to_answer(record: Sequence[Any], labels: Sequence[str]) -> Answer:
    """The answer in a record of `COLUMNS` or `WITH_LOGPROBS`."""
    row_id, sample, _, label, blob, outcome, text, seconds, agreement, copied_from, *packed = record
    probabilities = None if blob is None else struct.unpack(f"<{len(blob) // 4}f", blob)
    name = None if label is None else labels[label]
    logprobs = TokenLogprobs(packed[0]) if packed and packed[0] is not None else None
    return Answer(row_id, name, probabilities, outcome, text, seconds, sample, agreement, copied_from, logprobs)


def all_records(connection: sqlite3.Connection, place: int, columns: str = COLUMNS) -> Iterator[tuple[Any, ...]]:
    """Records of one place, in the order of row ids and samples.

    A page at a time: between two pages nothing is being read, so that what is written meanwhile, here or by another
    process, is moved from the journal into the file instead of piling up.
    """
    query = f"SELECT {columns} FROM answers WHERE labeller = ?"
    order = f" ORDER BY row_id, sample LIMIT {RECORDS_PER_PAGE}"
    page = connection.execute(query + order, (place,)).fetchall()
    while page:
        yield from page
        last = page[-1][:2]
        page = connection.execute(f"{query} AND (row_id, sample) > (?, ?){order}", (place, *last)).fetchall()


def some_records(
    connection: sqlite3.Connection, place: int, ids: Iterable[str], columns: str = COLUMNS
) -> Iterator[tuple[Any, ...]]:
    """Records of one place about these rows alone, in the order of row ids and samples."""
    wanted = sorted(ids)
    for start in range(0, len(wanted), IDS_PER_QUERY):
        part = wanted[start : start + IDS_PER_QUERY]
        query = f"SELECT {columns} FROM answers WHERE labeller = ? AND row_id IN ({', '.join('?' * len(part))})"
        yield from connection.execute(f"{query} ORDER BY row_id, sample", (place, *part)).fetchall()


def answered_records(
    connection: sqlite3.Connection, place: int, hashes: Mapping[str, str], keep_logprobs: int = 0
) -> frozenset[tuple[str, int]]:
    """(row id, sample) of the answers to rows (id -> hash of their text) as they now read, but for copied ones.

    Args:
        keep_logprobs: only those that at least so many log-probabilities a token were kept of.
    """
    records = some_records(connection, place, hashes, "row_id, sample, content_hash, copied_from, logprobs_kept")
    return frozenset(
        (row_id, sample)
        for row_id, sample, digest, source, kept in records
        if source is None and hashes[row_id] == digest and (kept or 0) >= keep_logprobs
    )


def read_labels(text: str) -> list[str]:
    labels: list[str] = json.loads(text)
    return labels
