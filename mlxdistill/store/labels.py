"""The label store.

SQLite in WAL mode: a wave of answers is one transaction, so kill -9 loses at most the wave in flight and can tear
nothing. Answers are kept per teacher and prompt; asking again happens only where teacher, prompt or text changed.

Nothing here takes memory or a transaction that grows with the number of answers: ten million of them stay usable.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlxdistill.store import people
from mlxdistill.store.decisions import DECISION_COLUMNS, INSERT_DECISION, Decision, to_decision, to_record
from mlxdistill.store.opening import database_errors, open_to_write
from mlxdistill.store.people import PersonLabel, Verdict
from mlxdistill.store.records import (
    COLUMNS,
    COPY,
    COUNT_COPIES,
    FORGET_COPIES,
    INSERT,
    INSERT_MISSING,
    WITH_LOGPROBS,
    all_records,
    answered_records,
    read_labels,
    some_records,
    to_answer,
    to_records,
)
from mlxdistill.tasks.protocols import Answer

RECORDS_PER_COMMIT = 16384  # where there are more of them than one wave
ROWS_PER_PAGE = 8192


class LabelStore:
    """The labels of one run folder. Use as a context manager.

    Raises DataError where the file is not a label store or is damaged, MlxDistillError where the disk is full,
    the file may not be written, or another program holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> LabelStore:
        self._connection = open_to_write(self.path)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with database_errors(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    def labeller(
        self,
        teacher_fingerprint: str,
        prompt_fingerprint: str,
        labels: Sequence[str],
        description: Mapping[str, Any] | None = None,
    ) -> int:
        """The number under which this teacher's answers to this prompt are kept.

        Args:
            description: of the teacher, for people; None leaves what is there.
        """
        key = (teacher_fingerprint, prompt_fingerprint, json.dumps(list(labels)))
        with self._transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO labellers (teacher_fingerprint, prompt_fingerprint, labels) VALUES (?, ?, ?)",
                key,
            )
            connection.execute("UPDATE labellers SET place = id WHERE place IS NULL")
            (number,) = connection.execute(
                "SELECT id FROM labellers WHERE teacher_fingerprint = ? AND prompt_fingerprint = ? AND labels = ?", key
            ).fetchone()
            if description is not None:
                connection.execute(
                    "UPDATE labellers SET description = ? WHERE id = ?", (json.dumps(dict(description)), number)
                )
        return int(number)

    def settings(self, labeller: int) -> dict[str, Any] | None:
        """The tuned settings that the labeller's answers were made with."""
        with database_errors(self.path):
            query = "SELECT settings FROM labellers WHERE id = ?"
            (text,) = self._connection.execute(query, (labeller,)).fetchone()
        return None if text is None else json.loads(text)

    def keep_settings(self, labeller: int, settings: Mapping[str, Any]) -> None:
        with self._transaction() as connection:
            connection.execute("UPDATE labellers SET settings = ? WHERE id = ?", (json.dumps(dict(settings)), labeller))

    def add(
        self,
        labeller: int,
        answers: Iterable[Answer],
        content_hashes: Mapping[str, str],
        *,
        replace: bool = True,
    ) -> None:
        """Commits a wave of answers.

        Args:
            content_hashes: row id -> hash of the text that was read (`tasks.rows.content_hash`).
            replace: put them in the place of older answers for the same row and sample; else those stay.
        """
        place, labels = self._place(labeller)
        with self._transaction() as connection:
            connection.executemany(
                INSERT if replace else INSERT_MISSING, to_records(place, labels, answers, content_hashes)
            )

    def replace(self, labeller: int, waves: Iterable[tuple[Iterable[Answer], Mapping[str, str]]]) -> None:
        """Puts answers that were made of others in the place of all those that the labeller had, at one moment.

        They are committed in groups where nobody looks yet; a stop before the last of them changes nothing.

        Args:
            waves: answers with the hashes of their rows' texts, as for `add`; they may be read from this store.
        """
        place, labels = self._place(labeller)
        self._empty(-place)
        records = itertools.chain.from_iterable(to_records(-place, labels, *wave) for wave in waves)
        while group := list(itertools.islice(records, RECORDS_PER_COMMIT)):
            with self._transaction() as connection:
                connection.executemany(INSERT, group)
        with self._transaction() as connection:
            connection.execute("UPDATE labellers SET place = ? WHERE id = ?", (-place, labeller))
        self._empty(place)

    def forget(self, labeller: int) -> None:
        """Deletes all answers of a labeller."""
        self._empty(self._place(labeller)[0])

    def _empty(self, place: int) -> None:
        bound: tuple[str] | None = ("",)
        while bound is not None:
            with self._transaction() as connection:
                query = (
                    f"SELECT row_id FROM answers WHERE labeller = ? ORDER BY row_id LIMIT 1 OFFSET {RECORDS_PER_COMMIT}"
                )
                bound = connection.execute(query, (place,)).fetchone()
                delete = "DELETE FROM answers WHERE labeller = ?"
                if bound is None:
                    connection.execute(delete, (place,))
                else:
                    connection.execute(f"{delete} AND row_id < ?", (place, *bound))

    def answered(self, labeller: int, hashes: Mapping[str, str], keep_logprobs: int = 0) -> frozenset[tuple[str, int]]:
        """(row id, sample) of the answers there are to these rows (id -> hash of their text) as they now read.

        Answers copied from other rows are left out: see `copy`.

        Args:
            keep_logprobs: only answers that at least so many log-probabilities a token were kept of.
        """
        place, _ = self._place(labeller)
        with database_errors(self.path):
            return answered_records(self._connection, place, hashes, keep_logprobs)

    def copy(self, labeller: int, sources: Mapping[str, str]) -> int:
        """Gives rows the answers to other rows, for those samples that they have no answer of their own to.

        What they had copied before goes.

        Args:
            sources: row id -> id of the row whose answers it takes; both on the list of those asked about.

        Returns how many rows have copied answers now.
        """
        place, _ = self._place(labeller)
        copied = 0
        items = iter(sources.items())
        while part := list(itertools.islice(items, ROWS_PER_PAGE)):
            with self._transaction() as connection:
                connection.execute("CREATE TEMP TABLE copies (row_id TEXT PRIMARY KEY, source TEXT NOT NULL)")
                connection.executemany("INSERT INTO temp.copies VALUES (?, ?)", part)
                connection.execute(FORGET_COPIES, (place,))
                connection.execute(COPY, (place, place, place))
                (count,) = connection.execute(COUNT_COPIES, (place,)).fetchone()
                connection.execute("DROP TABLE temp.copies")
            copied += count
        return copied

    def answers(
        self, labeller: int, hashes: Mapping[str, str] | None = None, samples: Collection[int] | None = None
    ) -> Iterator[Answer]:
        """The answers of one labeller, in the order of row ids and samples.

        Args:
            hashes: id -> hash of the text: answers to these rows alone, as they now read; None: all answers.
            samples: the numbers of those wanted; None: every one, those too that nobody wants any more.
        """
        return (
            answer
            for answer, _ in self.answers_with_hashes(labeller, hashes)
            if samples is None or answer.sample in samples
        )

    def answers_with_hashes(
        self, labeller: int, hashes: Mapping[str, str] | None = None, *, logprobs: bool = False
    ) -> Iterator[tuple[Answer, str]]:
        """As `answers`, each with the hash of the text that was read, and on demand its tokens' log-probabilities."""
        place, labels = self._place(labeller)
        columns = WITH_LOGPROBS if logprobs else COLUMNS
        with database_errors(self.path):
            if hashes is None:
                records = all_records(self._connection, place, columns)
            else:
                records = some_records(self._connection, place, hashes, columns)
            for record in records:
                if hashes is None or hashes[record[0]] == record[2]:
                    yield to_answer(record, labels), record[2]

    def begin_asking(self) -> None:
        """Starts a list of the rows that are asked about; SQLite keeps it in a temporary file."""
        with database_errors(self.path):
            self._connection.execute("DROP TABLE IF EXISTS temp.asked")
            self._connection.execute(
                "CREATE TEMP TABLE asked (row_id TEXT PRIMARY KEY, content_hash TEXT NOT NULL) WITHOUT ROWID"
            )

    def ask(self, hashes: Mapping[str, str]) -> list[str]:
        """Puts rows (id -> hash of their text) on the list; returns the ids that are there with another text."""
        with database_errors(self.path):
            self._connection.execute("BEGIN")
            self._connection.executemany("INSERT OR IGNORE INTO temp.asked VALUES (?, ?)", sorted(hashes.items()))
            self._connection.execute("COMMIT")
            query = "SELECT 1 FROM temp.asked WHERE row_id = ? AND content_hash != ?"
            return [
                row_id
                for row_id, digest in hashes.items()
                if self._connection.execute(query, (row_id, digest)).fetchone()
            ]

    def asked(self, labeller: int, samples: Iterable[int]) -> tuple[int, dict[str, int]]:
        """How many rows are on the list, and how often each outcome is among the labeller's answers to them."""
        place, _ = self._place(labeller)
        numbers = list(samples)
        query = (
            "SELECT outcome, count(*) FROM temp.asked CROSS JOIN answers USING (row_id, content_hash)"
            f" WHERE labeller = ? AND sample IN ({', '.join('?' * len(numbers))}) GROUP BY outcome"
        )
        with database_errors(self.path):
            (rows,) = self._connection.execute("SELECT count(*) FROM temp.asked").fetchone()
            return rows, dict(self._connection.execute(query, (place, *numbers)))

    def asked_speed(self, labeller: int, samples: Iterable[int]) -> tuple[int, float]:
        """How many rows on the list the labeller answered itself, and the seconds these samples took."""
        place, _ = self._place(labeller)
        numbers = list(samples)
        query = (
            "SELECT count(DISTINCT row_id), total(seconds) FROM temp.asked CROSS JOIN answers"
            " USING (row_id, content_hash) WHERE labeller = ? AND copied_from IS NULL"
            f" AND sample IN ({', '.join('?' * len(numbers))})"
        )
        with database_errors(self.path):
            rows, seconds = self._connection.execute(query, (place, *numbers)).fetchone()
        return rows, seconds

    def asked_rows(self) -> Iterator[dict[str, str]]:
        """The rows on the list (id -> hash of their text), a page at a time, each row once."""
        query, order = "SELECT row_id, content_hash FROM temp.asked", f" ORDER BY row_id LIMIT {ROWS_PER_PAGE}"
        with database_errors(self.path):
            page = dict(self._connection.execute(query + order).fetchall())
            while page:
                yield page
                last = next(reversed(page))
                page = dict(self._connection.execute(f"{query} WHERE row_id > ?{order}", (last,)).fetchall())

    def made_of(self, labeller: int) -> tuple[int, ...]:
        """The labellers whose answers this one's were made of; none where a model gave them."""
        with database_errors(self.path):
            query = "SELECT description FROM labellers WHERE id = ?"
            (text,) = self._connection.execute(query, (labeller,)).fetchone()
        return tuple(json.loads(text).get("made_of", ()))

    def _place(self, labeller: int) -> tuple[int, list[str]]:
        """The number under which the labeller's answers are kept, and its labels."""
        with database_errors(self.path):
            query = "SELECT place, labels FROM labellers WHERE id = ?"
            place, text = self._connection.execute(query, (labeller,)).fetchone()
        return place, read_labels(text)

    def add_filtering(self, decisions: Iterable[Decision]) -> None:
        """Commits the decisions of a whole run of the filters; from now on they are in force, and those before stay."""
        with self._transaction() as connection:
            (last,) = connection.execute("SELECT ifnull(max(filtering), 0) FROM decisions").fetchone()
            connection.executemany(INSERT_DECISION, ((last + 1, *to_record(item)) for item in decisions))

    def decisions(self) -> Iterator[Decision]:
        """Those in force."""
        with database_errors(self.path):
            for record in self._connection.execute(
                f"SELECT {DECISION_COLUMNS} FROM decisions"
                " WHERE filtering = (SELECT max(filtering) FROM decisions) ORDER BY row_id, filter"
            ):
                yield to_decision(record)

    def people(self, sets: Collection[str] | None = None) -> dict[str, PersonLabel]:
        """Row id -> what a person decided, of rows in these sets (None: all). See `people.in_force`."""
        with database_errors(self.path):
            return people.in_force(self._connection, sets)

    def people_history(self, after: int = 0) -> list[PersonLabel]:
        """What people decided and took back, oldest first; entries with a number above `after`."""
        with database_errors(self.path):
            return list(people.history(self._connection, after=after))

    def decide(self, verdict: Verdict, seen: int | None = None) -> PersonLabel:
        """Commits what a person decided about a row. Raises `people.Stale`; see `people.add`."""
        with self._transaction() as connection:
            return people.add(connection, verdict, seen)

    def undo(self, number: int) -> PersonLabel:
        """Takes back what a person decided. Raises `people.Stale`; see `people.undo`."""
        with self._transaction() as connection:
            return people.undo(connection, number)
