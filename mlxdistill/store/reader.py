"""A look inside a label store, while others may be writing it.

Opened to read only: nothing is locked, and nothing that is seen here can change what is kept.
"""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlxdistill.store import people
from mlxdistill.store.decisions import DECISION_COLUMNS, Decision, to_decision
from mlxdistill.store.opening import database_errors, open_to_read
from mlxdistill.store.people import PersonLabel
from mlxdistill.store.records import COLUMNS, all_records, answered_records, read_labels, to_answer
from mlxdistill.tasks.protocols import Answer

NEIGHBOURS = 2000  # ids on either side among which the nearest to one that is not there is looked for
RECORDS_PER_READ = 8192


@dataclass(frozen=True, slots=True)
class StoredLabeller:
    """One teacher and prompt of which there are answers, or what was made of several.

    Attributes:
        number: its own, in this store.
        labels: the order of its class probabilities.
        description: for people (`name`, `model`, ...), as far as it was kept.
        settings: the tuned settings of its answers, or None.
        place: where its answers are kept.
    """

    number: int
    teacher_fingerprint: str
    prompt_fingerprint: str
    labels: tuple[str, ...]
    description: Mapping[str, Any]
    settings: Mapping[str, Any] | None
    place: int

    @property
    def name(self) -> str:
        return str(self.description.get("name") or f"labeller {self.number}")

    @property
    def is_derived(self) -> bool:
        """Whether its answers were made of others' answers, instead of given by a model."""
        return bool(self.made_of)

    @property
    def made_of(self) -> tuple[int, ...]:
        """The numbers of those whose answers its own were made of."""
        return tuple(self.description.get("made_of", ()))

    @property
    def is_content_free(self) -> bool:
        """Whether its answers are about texts without content, by which others' are corrected, and no user's rows."""
        return "content_free_of" in self.description


@dataclass(frozen=True, slots=True)
class LabellerStatistics:
    """What one labeller's answers are.

    Attributes:
        answers, rows: how many answers there are, and of how many rows.
        outcomes, classes: how often each is there; classes in the order of the labels.
        mean_confidence: of the most probable label, over answers with class probabilities; None without any.
        mean_agreement: of those made of several answers; None without any.
        seconds: the model's time for all of them.
        copied: answers taken over from a row with nearly the same text.
    """

    answers: int
    rows: int
    outcomes: Mapping[str, int]
    classes: Mapping[str, int]
    mean_confidence: float | None
    mean_agreement: float | None
    seconds: float
    copied: int


class LabelReader:
    """The labels of one run folder, to look at. Use as a context manager.

    Raises DataError where the file is not a label store or is damaged, MlxDistillError where it may not be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> LabelReader:
        self._connection = open_to_read(self.path)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def labellers(self) -> list[StoredLabeller]:
        """All of them, the oldest first."""
        query = (
            "SELECT id, teacher_fingerprint, prompt_fingerprint, labels, description, settings, place"
            " FROM labellers ORDER BY id"
        )
        with database_errors(self.path):
            return [
                StoredLabeller(
                    number,
                    teacher,
                    prompt,
                    tuple(read_labels(labels)),
                    json.loads(description),
                    None if settings is None else json.loads(settings),
                    place,
                )
                for number, teacher, prompt, labels, description, settings, place in self._connection.execute(query)
            ]

    def answers(self, labeller: StoredLabeller) -> Iterator[Answer]:
        """Its answers, in the order of row ids and samples."""
        with database_errors(self.path):
            for record in all_records(self._connection, labeller.place):
                yield to_answer(record, labeller.labels)

    def answered(
        self, labeller: StoredLabeller, hashes: Mapping[str, str], keep_logprobs: int = 0
    ) -> frozenset[tuple[str, int]]:
        """As `LabelStore.answered`."""
        with database_errors(self.path):
            return answered_records(self._connection, labeller.place, hashes, keep_logprobs)

    def answers_to(self, labeller: StoredLabeller, row_id: str) -> list[Answer]:
        """Its answers to one row."""
        query = f"SELECT {COLUMNS} FROM answers WHERE labeller = ? AND row_id = ? ORDER BY sample"
        with database_errors(self.path):
            records = self._connection.execute(query, (labeller.place, row_id))
            return [to_answer(record, labeller.labels) for record in records]

    def decisions_about(self, row_id: str) -> list[tuple[int, Decision]]:
        """What the filters decided about one row, with the number of the filtering; the highest is in force."""
        with database_errors(self.path):
            (last,) = self._connection.execute("SELECT ifnull(max(filtering), 0) FROM decisions").fetchone()
            query = f"SELECT {DECISION_COLUMNS} FROM decisions WHERE filtering = ? AND row_id = ? ORDER BY filter"
            return [
                (number, to_decision(record))
                for number in range(1, last + 1)
                for record in self._connection.execute(query, (number, row_id))
            ]

    def people(self, sets: Collection[str] | None = None) -> dict[str, PersonLabel]:
        """As `LabelStore.people`."""
        with database_errors(self.path):
            return people.in_force(self._connection, sets)

    def people_history(self, row_id: str | None = None) -> list[PersonLabel]:
        """Everything that people decided and took back, or that about one row, oldest first."""
        with database_errors(self.path):
            return list(people.history(self._connection, row_id))

    def people_fingerprint(self, sets: Collection[str]) -> str | None:
        """Changes whenever a label by a person on these sets does; None where there is none."""
        with database_errors(self.path):
            return people.fingerprint(self._connection, sets)

    def nearest(self, row_id: str) -> str | None:
        """An id with answers that is written much like this one."""
        found: set[str] = set()
        with database_errors(self.path):
            for labeller in self.labellers():
                if labeller.is_content_free:
                    continue
                for side, order in ((">=", "ASC"), ("<", "DESC")):
                    query = (
                        f"SELECT DISTINCT row_id FROM answers WHERE labeller = ? AND row_id {side} ?"
                        f" ORDER BY row_id {order} LIMIT {NEIGHBOURS}"
                    )
                    found.update(name for (name,) in self._connection.execute(query, (labeller.place, row_id)))
        return next(iter(difflib.get_close_matches(row_id, sorted(found), 1)), None)

    def statistics(self, labeller: StoredLabeller) -> LabellerStatistics:
        """One pass over its answers, in memory that does not grow with them."""
        totals = _Totals(len(labeller.labels))
        query = (
            "SELECT row_id, outcome, label, probabilities, seconds, agreement, copied_from IS NOT NULL"
            " FROM answers WHERE labeller = ? ORDER BY row_id, sample"
        )
        with database_errors(self.path):
            cursor = self._connection.execute(query, (labeller.place,))
            while page := cursor.fetchmany(RECORDS_PER_READ):
                totals.add(page)
        return totals.statistics(labeller.labels)


class _Totals:
    def __init__(self, labels: int) -> None:
        self._labels = labels
        self._outcomes: Counter[str] = Counter()
        self._classes: Counter[int | None] = Counter()
        self._last_row: str | None = None
        self._rows = self._copied = self._graded = self._agreed = 0
        self._seconds = self._confidence = self._agreement = 0.0

    def add(self, page: list[tuple[Any, ...]]) -> None:
        rows, outcomes, labels, blobs, seconds, agreements, copied = zip(*page, strict=True)
        self._rows += len(set(rows)) - (rows[0] == self._last_row)
        self._last_row = rows[-1]
        self._outcomes.update(outcomes)
        self._classes.update(labels)
        self._seconds += sum(seconds)
        self._copied += sum(copied)
        agreed = [agreement for agreement in agreements if agreement is not None]
        self._agreed += len(agreed)
        self._agreement += sum(agreed)
        graded = b"".join(filter(None, blobs))
        shares = np.frombuffer(graded, "<f4").reshape(-1, self._labels)
        self._graded += len(shares)
        self._confidence += float(shares.max(axis=1, initial=0.0).sum(dtype=np.float64))

    def statistics(self, labels: tuple[str, ...]) -> LabellerStatistics:
        return LabellerStatistics(
            answers=sum(self._outcomes.values()),
            rows=self._rows,
            outcomes=dict(self._outcomes.most_common()),
            classes={name: self._classes[place] for place, name in enumerate(labels)},
            mean_confidence=self._confidence / self._graded if self._graded else None,
            mean_agreement=self._agreement / self._agreed if self._agreed else None,
            seconds=self._seconds,
            copied=self._copied,
        )
