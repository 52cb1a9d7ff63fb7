"""What the rows that the filters let through are to teach: the answers, with the treatments of likely wrong labels.

The filters themselves see the answers as they were given: a treatment is made anew from them at each filtering.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mlxdistill.pipeline.stage import Context
from mlxdistill.pipeline.training_labels import person_labels, training_answers
from mlxdistill.store import Decision, LabelStore
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row


@dataclass(frozen=True, slots=True)
class Teaching:
    """What rows teach: `answers` by row id, and `weights` of those that count less than others."""

    answers: Mapping[str, Answer]
    weights: Mapping[str, float]


def teaching(context: Context, store: LabelStore, rows: Sequence[Row]) -> Teaching:
    """The answers to these rows as the student is to learn them."""
    answers = training_answers(context, store, rows)
    by_people = person_labels(store, rows, context.task.names)
    treatments = [
        decision
        for decision in store.decisions()
        if decision.is_treatment and decision.row_id in answers and decision.row_id not in by_people
    ]
    weights: dict[str, float] = {}
    for decision in treatments:
        answers[decision.row_id] = treated(answers[decision.row_id], decision, context.task.names)
        if decision.weight is not None:
            weights[decision.row_id] = weights.get(decision.row_id, 1.0) * decision.weight
    return Teaching(answers, weights)


def treated(answer: Answer, decision: Decision, names: Sequence[str]) -> Answer:
    """The answer with a treatment. A label in its place is learned as certain: whatever was said for the other one, its
    text and probabilities, speaks no longer."""
    if decision.label is not None and decision.label != answer.label:
        return Answer(answer.row_id, decision.label, tuple(float(name == decision.label) for name in names))
    if decision.probabilities is not None:
        return replace(answer, probabilities=decision.probabilities)
    return answer
