"""What the rows teach: the teachers' answers, and a person's label in their place where there is one.

A person's label counts as certain. It stands for the text that the person read: where the row reads otherwise now, it
does not count. A person who was unsure has said nothing: the teachers' answer stays what it is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlxdistill.pipeline.answers import teacher_answers
from mlxdistill.pipeline.stage import Context
from mlxdistill.rundir.layout import RunDir
from mlxdistill.store import LabelReader, LabelStore
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row, content_hash

TAUGHT_SETS = ("pool", "synthetic", "valid")


def training_answers(context: Context, store: LabelStore, rows: Sequence[Row]) -> dict[str, Answer]:
    """Row id -> what the student is to learn of it, for the rows that somebody has answered as they now read."""
    answers = teacher_answers(context, store, rows)
    names = context.task.names
    for row_id, label in person_labels(store, rows, names).items():
        given = answers.get(row_id)
        certain = tuple(float(name == label) for name in names)
        if given is not None and given.label == label:
            answers[row_id] = replace(given, probabilities=certain)
        else:  # what the teacher wrote was meant for another label
            answers[row_id] = Answer(row_id, label, certain)
    return answers


def person_labels(store: LabelStore | LabelReader, rows: Sequence[Row], names: Collection[str]) -> dict[str, str]:
    """Row id -> the label a person gave it as it now reads, where that is one of the task's."""
    people = store.people()
    if not people:
        return {}
    return {
        row.id: entry.label
        for row in rows
        if (entry := people.get(row.id)) is not None
        and entry.label in names
        and entry.label is not None
        and entry.content_hash == content_hash(row.text)
    }


def with_people(store: LabelStore | LabelReader, rows: Sequence[Row], names: Collection[str]) -> list[Row]:
    """The rows with what people say of them.

    A person's label is gold where there is none (`meta["gold_by"]` is `person`). Gold that is there is never replaced:
    another label by a person stands beside it (`meta["disputed"]`).
    """
    labels = person_labels(store, rows, names)
    return [_with_label(row, labels[row.id]) if row.id in labels else row for row in rows]


def _with_label(row: Row, label: str) -> Row:
    if row.gold is None:
        return replace(row, gold=label, meta={**row.meta, "gold_by": "person"})
    return row if row.gold == label else replace(row, meta={**row.meta, "disputed": label})


def people_inputs(run: RunDir, sets: Collection[str] = TAUGHT_SETS) -> Mapping[str, Any]:
    """What a stage depends on besides: the labels by people on these sets; nothing where there are none."""
    if not run.labels.exists():
        return {}
    with LabelReader(run.labels) as reader:
        digest = reader.people_fingerprint(sets)
    return {} if digest is None else {"people": digest}
