"""Labels by people: what somebody decided about a row, kept so that nothing decided is ever lost.

Only ever added to. A label that is changed or taken back stays, and the entry after it says so; the last entry about a
row is in force. Who decided is not kept: the store belongs to whoever owns the run folder.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import sqlite3
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["label", "unsure", "withdrawn"]

_COLUMNS = "number, row_id, content_hash, of_set, kind, label, previous, undoes, shown, why, decided"
_IN_FORCE = "number IN (SELECT max(number) FROM people GROUP BY row_id) AND kind != 'withdrawn'"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a person says of a row.

    Attributes:
        content_hash: of the text that was read (`tasks.rows.content_hash`).
        of_set: the rows it is among: `pool`, `synthetic`, `valid`, `test_indist` or `test_balanced`.
        label: None where the person is unsure.
        shown: the teacher's answer, which the person saw; None where there was none.
        why: for which reasons the person was asked.
    """

    row_id: str
    content_hash: str
    of_set: str
    label: str | None
    shown: str | None = None
    why: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PersonLabel:
    """One entry of the history.

    Attributes:
        number: counts all entries; the highest about a row is in force.
        kind: `label`; `unsure`; `withdrawn` (taken back, and nothing had been decided before).
        previous: the entry that was in force until then.
        undoes: the entry that this one takes back; None where somebody decided.
        decided: when, UTC.
    """

    number: int
    row_id: str
    content_hash: str
    of_set: str
    kind: Kind
    label: str | None
    previous: int | None
    undoes: int | None
    shown: str | None
    why: tuple[str, ...]
    decided: str


class Stale(Exception):
    """Somebody has decided about the row meanwhile; nothing was changed."""


def in_force(connection: sqlite3.Connection, sets: Collection[str] | None = None) -> dict[str, PersonLabel]:
    """Row id -> what stands, of rows in these sets (None: all). Whoever uses a label checks the hash of its text."""
    records = connection.execute(f"SELECT {_COLUMNS} FROM people WHERE {_IN_FORCE} ORDER BY number")
    found = map(_entry, records)
    return {entry.row_id: entry for entry in found if sets is None or entry.of_set in sets}


def history(connection: sqlite3.Connection, row_id: str | None = None, after: int = 0) -> Iterator[PersonLabel]:
    """Every entry, or those about one row, oldest first; those with a number above `after`."""
    where, values = ("", (after,)) if row_id is None else ("AND row_id = ?", (after, row_id))
    query = f"SELECT {_COLUMNS} FROM people WHERE number > ? {where} ORDER BY number"
    yield from map(_entry, connection.execute(query, values).fetchall())


def last_number(connection: sqlite3.Connection, row_id: str) -> int:
    """The number of the last entry about a row; 0 where there is none."""
    query = "SELECT ifnull(max(number), 0) FROM people WHERE row_id = ?"
    number: int = connection.execute(query, (row_id,)).fetchone()[0]
    return number


def fingerprint(connection: sqlite3.Connection, sets: Collection[str]) -> str | None:
    """Changes whenever a label in force on these sets does; None where there is none. Being unsure is no label."""
    labels = sorted(
        (entry.row_id, entry.content_hash, entry.label)
        for entry in in_force(connection, sets).values()
        if entry.kind == "label"
    )
    return hashlib.sha256(json.dumps(labels).encode()).hexdigest()[:32] if labels else None


def add(connection: sqlite3.Connection, verdict: Verdict, seen: int | None) -> PersonLabel:
    """Adds what a person decided; within a transaction of the caller's.

    Args:
        seen: the number of the last entry about the row that the person knew of (0: none); None: whatever it is.

    Raises Stale where there is a later one.
    """
    last = last_number(connection, verdict.row_id)
    if seen is not None and seen != last:
        raise Stale
    return _insert(connection, verdict, "unsure" if verdict.label is None else "label", last or None, None)


def undo(connection: sqlite3.Connection, number: int) -> PersonLabel:
    """Takes a decision back: what stood before it stands again; within a transaction of the caller's.

    Raises Stale where it is not what stands about its row.
    """
    taken = _by_number(connection, number)
    last = None if taken is None else _by_number(connection, last_number(connection, taken.row_id))
    standing = _standing(connection, last)
    if taken is None or last is None or standing is None or standing.number != number:
        raise Stale
    before = _standing(connection, _by_number(connection, taken.previous))
    if before is None:
        nothing = Verdict(taken.row_id, taken.content_hash, taken.of_set, None, taken.shown, taken.why)
        return _insert(connection, nothing, "withdrawn", last.number, number)
    again = Verdict(taken.row_id, before.content_hash, before.of_set, before.label, before.shown, before.why)
    return _insert(connection, again, before.kind, last.number, number)


def _standing(connection: sqlite3.Connection, entry: PersonLabel | None) -> PersonLabel | None:
    """The decision that an entry leaves in force: itself, or the one before the one that it takes back."""
    while entry is not None and entry.undoes is not None:
        taken = _by_number(connection, entry.undoes)
        entry = None if taken is None else _by_number(connection, taken.previous)
    return entry


def _insert(
    connection: sqlite3.Connection, verdict: Verdict, kind: Kind, previous: int | None, undoes: int | None
) -> PersonLabel:
    decided = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    values = (
        *(verdict.row_id, verdict.content_hash, verdict.of_set, kind, verdict.label, previous, undoes, verdict.shown),
        *(json.dumps(verdict.why), decided),
    )
    columns = _COLUMNS.removeprefix("number, ")
    number = connection.execute(
        f"INSERT INTO people ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values
    ).lastrowid
    entry = _by_number(connection, number)
    assert entry is not None
    return entry


def _by_number(connection: sqlite3.Connection, number: int | None) -> PersonLabel | None:
    record = connection.execute(f"SELECT {_COLUMNS} FROM people WHERE number = ?", (number,)).fetchone()
    return None if record is None else _entry(record)


def _entry(record: tuple[Any, ...]) -> PersonLabel:
    number, row_id, content_hash, of_set, kind, label, previous, undoes, shown, why, decided = record
    reasons = tuple(json.loads(why))
    return PersonLabel(number, row_id, content_hash, of_set, kind, label, previous, undoes, shown, reasons, decided)
