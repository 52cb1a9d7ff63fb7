"""Asking a teacher about rows, and keeping every answer at once.

Rows already answered by the same teacher to the same prompt about the same text are not asked again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlxdistill.errors import DataError
from mlxdistill.store import LabelStore
from mlxdistill.tasks.protocols import Answer, Labeller, Progress
from mlxdistill.tasks.rows import Row, content_hash


@dataclass(frozen=True, slots=True)
class LabelSummary:
    """What labelling did: rows asked for, answers taken from the store, answers new, and what they were."""

    rows: int
    from_store: int
    new: int
    unparsable: int
    truncated: int
    missing: int


def label_rows(
    labeller: Labeller, labels: Sequence[str], rows: Sequence[Row], store: LabelStore, progress: Progress
) -> LabelSummary:
    """Labels the rows and commits each wave before the next begins.

    Args:
        labels: the task's label names, in order.
        rows: may name the same row twice (a row in two test sets), but not two texts under one id.

    Raises DataError for an id with two texts, and whatever the labeller raises.
    """
    hashes: dict[str, str] = {}
    unique: list[Row] = []
    for row in rows:
        digest = content_hash(row.text)
        if row.id not in hashes:
            hashes[row.id] = digest
            unique.append(row)
        elif hashes[row.id] != digest:
            hint = "give the rows distinct ids, or leave `data.fields.id` out"
            raise DataError("two rows with different texts have this id", where=f"row {row.id}", hint=hint)
    number = store.labeller(labeller.fingerprint, labeller.prompt_fingerprint, labels)
    answered = store.answered(number)
    done = frozenset(row_id for row_id, digest in hashes.items() if answered.get(row_id) == digest)
    new = 0
    if len(done) < len(hashes):
        for wave in labeller.label(unique, done, progress):
            store.add(number, wave, hashes)
            new += len(wave)
    answers = answers_of(store, number, hashes)
    return LabelSummary(
        rows=len(hashes),
        from_store=len(done),
        new=new,
        unparsable=sum(answer.label is None for answer in answers.values()),
        truncated=sum(answer.outcome == "truncated" for answer in answers.values()),
        missing=len(hashes) - len(answers),
    )


def answers_of(store: LabelStore, labeller: int, hashes: dict[str, str]) -> dict[str, Answer]:
    """Row id -> answer, for those rows (id -> hash of their text) that the labeller has answered as they now read."""
    answered = store.answered(labeller)
    return {
        answer.row_id: answer
        for answer in store.answers(labeller)
        if answer.row_id in hashes and answered[answer.row_id] == hashes[answer.row_id]
    }
