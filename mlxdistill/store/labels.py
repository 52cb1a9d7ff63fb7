"""The label store.

SQLite in WAL mode: a wave of answers is one transaction, so kill -9 loses at most the wave in flight and can tear
nothing. Answers are kept per teacher and prompt; asking again happens only where teacher, prompt or text changed.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlxdistill.errors import DataError, MlxDistillError
from mlxdistill.rundir.files import FILE_MODE, make_folder, os_errors
from mlxdistill.store.migrations import MIGRATIONS, migrate
from mlxdistill.tasks.protocols import Answer

LOCK_SECONDS = 5.0
_FREE_SPACE = "free some disk space and run the same command again; every answer committed so far is kept"
_PERMISSIONS = "check the permissions of the file and its folder, or choose another place"
_MENDS = {  # by what SQLite's message holds
    "full": _FREE_SPACE,
    "disk I/O": _FREE_SPACE,
    "readonly": _PERMISSIONS,
    "unable to open": _PERMISSIONS,
    "locked": "another program has it open; close that and run the same command again",
}


@dataclass(frozen=True, slots=True)
class Decision:
    """What one filter decided about one row, and why."""

    row_id: str
    filter: str
    kept: bool
    reason: str
    score: float | None = None


class LabelStore:
    """The labels of one run folder. Use as a context manager.

    Raises DataError where the file is not a label store or is damaged, MlxDistillError where the disk is full,
    the file may not be written, or another program holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> LabelStore:
        make_folder(self.path.parent)
        with os_errors(self.path):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, FILE_MODE))
        with self._errors():
            self._connection = sqlite3.connect(self.path, timeout=LOCK_SECONDS, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise
        return self

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        if self._connection.execute("PRAGMA user_version").fetchone()[0] > len(MIGRATIONS):
            message = "this label store was written by a newer mlxdistill"
            raise DataError(message, where=str(self.path), hint="upgrade mlxdistill")
        migrate(self._connection)

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            hint = next((mend for words, mend in _MENDS.items() if words in str(error)), None)
            if hint is None:
                raise
            raise MlxDistillError(f"cannot use the label store: {error}", where=str(self.path), hint=hint) from error
        except sqlite3.DatabaseError as error:
            hint = "move the file away; its rows will be labelled anew"
            raise DataError(f"not a label store, or damaged ({error})", where=str(self.path), hint=hint) from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def labeller(self, teacher_fingerprint: str, prompt_fingerprint: str, labels: Sequence[str]) -> int:
        """The number under which this teacher's answers to this prompt are kept."""
        key = (teacher_fingerprint, prompt_fingerprint, json.dumps(list(labels)))
        with self._transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO labellers (teacher_fingerprint, prompt_fingerprint, labels) VALUES (?, ?, ?)",
                key,
            )
            (number,) = connection.execute(
                "SELECT id FROM labellers WHERE teacher_fingerprint = ? AND prompt_fingerprint = ? AND labels = ?", key
            ).fetchone()
        return int(number)

    def add(
        self, labeller: int, answers: Iterable[Answer], content_hashes: Mapping[str, str], *, sample: int = 0
    ) -> None:
        """Commits a wave of answers; an older answer for the same row is replaced.

        Args:
            content_hashes: row id -> hash of the text that was read (`tasks.rows.content_hash`).
        """
        position = {label: index for index, label in enumerate(self._labels(labeller))}
        records = [
            (
                labeller,
                answer.row_id,
                sample,
                content_hashes[answer.row_id],
                None if answer.label is None else position[answer.label],
                None if answer.probabilities is None else np.asarray(answer.probabilities, "<f4").tobytes(),
                answer.outcome,
                answer.text,
                answer.seconds,
            )
            for answer in answers
        ]
        with self._transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", records)

    def answered(self, labeller: int) -> dict[str, str]:
        """Row id -> hash of the text that was answered."""
        with self._errors():
            return dict(
                self._connection.execute("SELECT row_id, content_hash FROM answers WHERE labeller = ?", (labeller,))
            )

    def answers(self, labeller: int) -> Iterator[Answer]:
        """All answers of one labeller, in the order of their row ids."""
        labels = self._labels(labeller)
        columns = "row_id, label, probabilities, outcome, text, seconds"
        query = f"SELECT {columns} FROM answers WHERE labeller = ? ORDER BY row_id, sample"
        with self._errors():
            for row_id, label, blob, outcome, text, seconds in self._connection.execute(query, (labeller,)):
                probabilities = None if blob is None else tuple(np.frombuffer(blob, "<f4").astype(float).tolist())
                yield Answer(row_id, None if label is None else labels[label], probabilities, outcome, text, seconds)

    def _labels(self, labeller: int) -> list[str]:
        with self._errors():
            (text,) = self._connection.execute("SELECT labels FROM labellers WHERE id = ?", (labeller,)).fetchone()
        labels: list[str] = json.loads(text)
        return labels

    def add_filtering(self, decisions: Iterable[Decision]) -> None:
        """Commits the decisions of a whole run of the filters; from now on they are in force, and those before stay."""
        with self._transaction() as connection:
            (last,) = connection.execute("SELECT ifnull(max(filtering), 0) FROM decisions").fetchone()
            connection.executemany(
                "INSERT INTO decisions VALUES (?, ?, ?, ?, ?, ?)",
                ((last + 1, item.row_id, item.filter, item.kept, item.reason, item.score) for item in decisions),
            )

    def decisions(self) -> Iterator[Decision]:
        """Those in force."""
        with self._errors():
            for row_id, name, kept, reason, score in self._connection.execute(
                "SELECT row_id, filter, kept, reason, score FROM decisions"
                " WHERE filtering = (SELECT max(filtering) FROM decisions) ORDER BY row_id, filter"
            ):
                yield Decision(row_id, name, bool(kept), reason, score)
