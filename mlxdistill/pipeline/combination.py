"""Several teachers' opinions made into one answer a row, and how far each of them can be relied on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mlxdistill.pipeline.asking import Asked
from mlxdistill.pipeline.opinions import Hashes, hashes_of, labeller_of
from mlxdistill.pipeline.stage import Context
from mlxdistill.statistics.intervals import wilson
from mlxdistill.store import SETTLED, LabelStore
from mlxdistill.tasks.protocols import Answer
from mlxdistill.teacher.dawid_skene import FEWEST_TEACHERS, DawidSkene, fit_dawid_skene
from mlxdistill.teacher.effects import GoldRows, effect, scores
from mlxdistill.teacher.opinions import AnswersById, answers_from, opinions_of
from mlxdistill.teacher.votes import NONE, Opinions, agreement, majority, mean, top

MOST_LABELS_KEPT = 20  # of a confusion matrix, in the manifest

Join = Callable[[Sequence[Opinions]], Opinions]


def combine(
    context: Context, store: LabelStore, teachers: Sequence[Asked], numbers: Sequence[int], gold: GoldRows
) -> tuple[int, dict[str, dict[str, Any]], dict[str, Any] | None]:
    """Combines the answers to the rows on the store's list (`LabelStore.ask`).

    Args:
        numbers: of each teacher's opinions, their labeller.

    Returns:
        The labeller's number of the combination; by the teacher's name, how far it can be relied on; and the effect of
        combining, None without validation rows with gold.
    """
    names, rule = context.task.names, context.config.combine
    votes = _Votes(store, numbers, names)
    model = _learn(context, votes) if rule == "dawid_skene" else None
    join = _joiner(rule, model)
    members = dict(zip(numbers, teachers, strict=True))
    number = labeller_of(context, store, f"{len(teachers)} teachers, combined by {rule}", [rule], members)
    tallies = [Counter[str]() for _ in teachers]

    def waves() -> Iterator[tuple[list[Answer], Hashes]]:
        for page in store.asked_rows():
            given, opinions = votes.about(page)
            joined = join(opinions)
            for tally, one in zip(tallies, opinions, strict=True):
                tally.update(_counts(one, joined))
            yield answers_from(list(page), joined, given, names), page

    store.replace(number, waves())
    _tell_of_bare_labels(context, teachers, tallies)
    known = votes.about(hashes_of(gold.rows))[1]
    reliabilities = {}
    for place, teacher in enumerate(teachers):
        believed = _believed(model, place, names) if model else None
        reliabilities[teacher.name] = _reliability(tallies[place], scores(known[place], gold), believed)
    found = _effect({each.name: one for each, one in zip(teachers, known, strict=True)}, join, gold)
    return number, reliabilities, found


class _Votes:
    """What every teacher thinks of a page of rows."""

    def __init__(self, store: LabelStore, numbers: Sequence[int], names: Sequence[str]) -> None:
        self.store = store
        self.names = names
        self._numbers = numbers

    def about(self, hashes: Hashes) -> tuple[list[AnswersById], list[Opinions]]:
        given: list[AnswersById] = [
            {answer.row_id: answer for answer in self.store.answers(number, hashes, SETTLED)}
            for number in self._numbers
        ]
        return given, [opinions_of(list(hashes), answers, self.names) for answers in given]


def _learn(context: Context, votes: _Votes) -> DawidSkene:
    """Dawid and Skene's model of the votes on all rows; equal votes are counted, not kept."""
    counts: Counter[tuple[int, ...]] = Counter()
    for page in votes.store.asked_rows():
        labels = np.column_stack([one.labels for one in votes.about(page)[1]])
        patterns, found = np.unique(labels, axis=0, return_counts=True)
        counts.update({tuple(pattern): count for pattern, count in zip(patterns.tolist(), found.tolist(), strict=True)})
    teachers = len(next(iter(counts)))
    model = fit_dawid_skene(np.array(list(counts)), len(votes.names), np.array(list(counts.values())))
    if teachers < FEWEST_TEACHERS:
        context.reporter.note(
            f"combine: dawid_skene learns whom to trust from who agrees with whom; of {teachers} teachers nothing tells"
            f" which is right (it takes {FEWEST_TEACHERS})"
        )
    if not model.converged:
        context.reporter.note(f"combine: dawid_skene had not settled after {model.iterations:,} rounds")
    return model


def _joiner(rule: str, model: DawidSkene | None) -> Join:
    def believed(members: Sequence[Opinions]) -> Opinions:
        assert model is not None
        shares = model.class_probabilities(np.column_stack([member.labels for member in members]))
        labels = np.where(shares.any(axis=1), top(shares), NONE)
        answered = np.logical_or.reduce([member.answered for member in members])
        return Opinions(labels, shares, answered, labels != NONE, agreement(members, labels))

    joins: Mapping[str, Join] = {"mean": mean, "majority": majority, "dawid_skene": believed}
    return joins[rule]


def _counts(one: Opinions, joined: Opinions) -> dict[str, int]:
    named = one.labels != NONE
    return {
        "answers": int(one.answered.sum()),
        "unparsable": int((one.answered & ~named).sum()),
        "agreed": int((named & (one.labels == joined.labels)).sum()),
        "graded": int(one.graded.sum()),
    }


def _tell_of_bare_labels(context: Context, teachers: Sequence[Asked], tallies: Sequence[Counter[str]]) -> None:
    bare = [
        each.name for each, tally in zip(teachers, tallies, strict=True) if tally["answers"] and not tally["graded"]
    ]
    if context.config.combine == "mean" and 0 < len(bare) < len(teachers):
        context.reporter.note(
            f"combine: mean takes the labels of {' and '.join(bare)} for certain, for want of class probabilities, so"
            " that they outweigh the others; `combine: majority` gives each teacher one vote"
        )


def _reliability(tally: Counter[str], scored: dict[str, Any], believed: dict[str, Any] | None) -> dict[str, Any]:
    """How many rows the teacher answered, how often it named the combination's label, and how often the right one."""
    named = tally["answers"] - tally["unparsable"]
    shared = {**wilson(tally["agreed"], named).to_json(), "n": named} if named else None
    found = {
        "answers": tally["answers"],
        "unparsable": tally["unparsable"],
        "agreement": shared,
        "validation": scored,
    }
    return found if believed is None else {**found, "dawid_skene": believed}


def _believed(model: DawidSkene, place: int, names: Sequence[str]) -> dict[str, Any]:
    """Null for what only the smoothing speaks of: a teacher that named no label, a class of no row that it named."""
    confusion, seen = model.confusion[place], model.seen[place]
    found: dict[str, Any] = {
        "accuracy": model.reliability(place),
        "recall": {
            name: float(confusion[label, label]) if known else None
            for label, (name, known) in enumerate(zip(names, seen, strict=True))
        },
    }
    if len(names) > MOST_LABELS_KEPT:
        return found
    rows = zip(confusion.tolist(), seen, strict=True)
    return {**found, "confusion": [row if known else [None] * len(names) for row, known in rows]}


def _effect(known: Mapping[str, Opinions], join: Join, gold: GoldRows) -> dict[str, Any] | None:
    """The combination against the teacher that is right most often on these rows: the hardest to beat."""
    if not gold.rows:
        return None
    right = {name: int((one.labels == gold.places).sum()) for name, one in known.items()}
    best = max(right, key=lambda name: right[name])
    return {
        "teacher": None,
        "step": "combination",
        "against": best,
        **effect(known[best], join(list(known.values())), gold),
    }
