"""How the label store came to its present shape: numbered steps, applied once each, in order."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable


def m001_answers_and_decisions(connection: sqlite3.Connection) -> None:
    connection.execute(
        """
        CREATE TABLE labellers (
            id INTEGER PRIMARY KEY,
            teacher_fingerprint TEXT NOT NULL,
            prompt_fingerprint TEXT NOT NULL,
            labels TEXT NOT NULL,  -- JSON list: the order of every probability vector
            UNIQUE (teacher_fingerprint, prompt_fingerprint, labels)
        )
        """
    )
    connection.execute(
        """
        CREATE TABLE answers (
            labeller INTEGER NOT NULL REFERENCES labellers (id),
            row_id TEXT NOT NULL,
            sample INTEGER NOT NULL,
            content_hash TEXT NOT NULL,
            label INTEGER,  -- position in the labeller's labels; NULL where the answer names none
            probabilities BLOB,  -- float32, little endian, in the order of the labeller's labels
            outcome TEXT NOT NULL,
            text TEXT,
            seconds REAL NOT NULL,
            PRIMARY KEY (labeller, row_id, sample)
        ) WITHOUT ROWID
        """
    )
    connection.execute(
        """
        CREATE TABLE decisions (
            row_id TEXT NOT NULL,
            filter TEXT NOT NULL,
            kept INTEGER NOT NULL,
            reason TEXT NOT NULL,
            score REAL,
            PRIMARY KEY (row_id, filter)
        ) WITHOUT ROWID
        """
    )


def m002_decisions_of_each_filtering(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE decisions RENAME TO decisions_before")
    connection.execute(
        """
        CREATE TABLE decisions (
            filtering INTEGER NOT NULL,  -- counts the runs of the filter stage; the highest is in force
            row_id TEXT NOT NULL,
            filter TEXT NOT NULL,
            kept INTEGER NOT NULL,
            reason TEXT NOT NULL,
            score REAL,
            PRIMARY KEY (filtering, row_id, filter)
        ) WITHOUT ROWID
        """
    )
    connection.execute("INSERT INTO decisions SELECT 1, row_id, filter, kept, reason, score FROM decisions_before")
    connection.execute("DROP TABLE decisions_before")


def m003_several_opinions(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE answers ADD COLUMN agreement REAL")
    connection.execute("ALTER TABLE answers ADD COLUMN copied_from TEXT")
    # JSON, for people: name, model, how it answers. And the tuned settings its answers were made with, or NULL.
    connection.execute("ALTER TABLE labellers ADD COLUMN description TEXT NOT NULL DEFAULT '{}'")
    connection.execute("ALTER TABLE labellers ADD COLUMN settings TEXT")


def m004_replacing_all_answers(connection: sqlite3.Connection) -> None:
    # The number under which `answers` has a labeller's answers: its id, or the negative of it.
    connection.execute("ALTER TABLE labellers ADD COLUMN place INTEGER")
    connection.execute("UPDATE labellers SET place = id")


def m005_token_logprobs(connection: sqlite3.Connection) -> None:
    # The columns at the end of a record: whoever reads only those before them does not read the pages they fill.
    connection.execute("ALTER TABLE answers ADD COLUMN logprobs_kept INTEGER")  # at each token; NULL where none are
    connection.execute("ALTER TABLE answers ADD COLUMN logprobs BLOB")  # tasks.token_logprobs.TokenLogprobs.packed


def m006_labels_by_people(connection: sqlite3.Connection) -> None:
    connection.execute(
        """
        CREATE TABLE people (
            number INTEGER PRIMARY KEY AUTOINCREMENT,  -- only ever added to; the highest about a row is in force
            row_id TEXT NOT NULL,
            content_hash TEXT NOT NULL,  -- of the text that the person read
            of_set TEXT NOT NULL,
            kind TEXT NOT NULL,  -- label, unsure, or withdrawn: taken back, with nothing decided before
            label TEXT,
            previous INTEGER REFERENCES people (number),  -- what was in force until then
            undoes INTEGER REFERENCES people (number),  -- what this takes back; NULL where somebody decided
            shown TEXT,  -- the teacher's answer at the time
            why TEXT NOT NULL,  -- JSON list: the reasons for asking
            decided TEXT NOT NULL  -- UTC
        )
        """
    )
    connection.execute("CREATE INDEX people_by_row ON people (row_id, number)")


def m007_treatments(connection: sqlite3.Connection) -> None:
    # What a kept row teaches other than its answer; NULL where nothing else.
    connection.execute("ALTER TABLE decisions ADD COLUMN weight REAL")
    connection.execute("ALTER TABLE decisions ADD COLUMN label TEXT")
    connection.execute("ALTER TABLE decisions ADD COLUMN probabilities BLOB")  # float32, in the order of the task


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    m001_answers_and_decisions,
    m002_decisions_of_each_filtering,
    m003_several_opinions,
    m004_replacing_all_answers,
    m005_token_logprobs,
    m006_labels_by_people,
    m007_treatments,
)


def migrate(connection: sqlite3.Connection) -> None:
    """Brings the store to the newest shape. Each step and its number are one transaction, also where two open it."""
    while _version(connection) < len(MIGRATIONS):
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            version = _version(connection)  # another process may have taken the step meanwhile
            if version < len(MIGRATIONS):
                MIGRATIONS[version](connection)
                connection.execute(f"PRAGMA user_version = {version + 1}")


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version
