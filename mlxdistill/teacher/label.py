"""Asking a teacher about rows, and keeping every answer at once.

Rows already answered by the same teacher to the same prompt about the same text are not asked again, and rows that take
the answer to another row not at all. Rows come as a stream, a piece at a time, so that memory does not grow with their
number.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mlxdistill.errors import DataError
from mlxdistill.store import LabelStore
from mlxdistill.tasks.protocols import Answer, Labeller, Progress
from mlxdistill.tasks.rows import Row, content_hash

MUCH_LARGER = 4
ROWS_PER_PIECE = 8192  # whole chunks of the scorer, so that asking in pieces changes no wave


@dataclass(frozen=True, slots=True)
class LabelSummary:
    """What labelling did: rows asked for, answers taken from the store, answers new, and what all of them were.

    `missing`: answers that nobody gave (rows that a recorded teacher never saw); `copied`: rows that took the answer to
    another row.
    """

    rows: int
    from_store: int
    new: int
    unparsable: int
    truncated: int
    missing: int
    copied: int = 0


def label_rows(
    labeller: Labeller,
    number: int,
    rows: Iterable[Row],
    total: int,
    store: LabelStore,
    progress: Progress,
    sources: Mapping[str, str] = MappingProxyType({}),
    keep_logprobs: int = 0,
) -> LabelSummary:
    """Labels the rows and commits each wave before the next begins.

    Args:
        number: the labeller's, in the store.
        rows: may name the same row twice (a row in two test sets), but not two texts under one id.
        total: how many rows there are, for the progress.
        sources: row id -> id of the row whose answers it takes, instead of being asked about (`find_sources`). It may
            have been answered itself before; then it keeps that.
        keep_logprobs: how many of the likeliest tokens' log-probabilities the labeller gives at each token; an answer
            that fewer were kept of is asked for again.

    Raises DataError for an id with two texts, and whatever the labeller raises.
    """
    wanted = frozenset(labeller.samples)
    from_store = new = begun = 0
    store.begin_asking()
    kept = store.settings(number)
    if kept is not None and total > MUCH_LARGER * kept.get("job_rows", total):
        kept = None  # found for a job so small that little was tried
    labeller.prepare(total, kept)
    for piece in _pieces(rows):
        hashes = {row.id: content_hash(row.text) for row in piece}
        _check_ids(piece, hashes, store.ask(hashes))
        unique = list({row.id: row for row in piece if row.id not in sources}.values())
        asked = {(row.id, sample) for row in unique for sample in wanted}
        done = store.answered(number, hashes, keep_logprobs) & asked
        from_store += len(done)
        if len(done) < len(asked):
            for wave in labeller.label(unique, done, _Part(progress, begun, total)):
                if kept is None and labeller.settings is not None:
                    kept = {**labeller.settings, "job_rows": total}
                    store.keep_settings(number, kept)  # before the answers, so that no stop parts them from these
                store.add(number, wave, hashes)
                new += len(wave)
        begun += len(piece)
        progress.advance(begun, total)
    copied = store.copy(number, sources)
    asked_rows, outcomes = store.asked(number, wanted)
    return LabelSummary(
        rows=asked_rows,
        from_store=from_store,
        new=new,
        unparsable=outcomes.get("unparsable", 0),
        truncated=outcomes.get("truncated", 0),
        missing=asked_rows * len(wanted) - sum(outcomes.values()),
        copied=copied,
    )


class _Part:
    """Progress of a piece as progress of the whole."""

    def __init__(self, progress: Progress, begun: int, total: int) -> None:
        self._progress = progress
        self._begun = begun
        self._total = total

    def advance(self, done: int, total: int, **figures: float) -> None:
        self._progress.advance(self._begun + done, self._total, **figures)

    def note(self, message: str) -> None:
        self._progress.note(message)


def _pieces(rows: Iterable[Row]) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while piece := list(itertools.islice(iterator, ROWS_PER_PIECE)):
        yield piece


def _check_ids(piece: Iterable[Row], hashes: dict[str, str], other_text: list[str]) -> None:
    other_text += [row.id for row in piece if content_hash(row.text) != hashes[row.id]]
    if other_text:
        hint = "give the rows distinct ids, or leave `data.fields.id` out"
        raise DataError("two rows with different texts have this id", where=f"row {other_text[0]}", hint=hint)


def answers_of(store: LabelStore, labeller: int, hashes: dict[str, str]) -> dict[str, Answer]:
    """Row id -> answer, for those rows (id -> hash of their text) that the labeller has answered as they now read.

    Of several answers to a row, the first: whoever has several has made them into one (`teacher/opinions.py`).
    """
    found: dict[str, Answer] = {}
    for answer in store.answers(labeller, hashes):
        found.setdefault(answer.row_id, answer)
    return found
