"""From a teacher's answers to one opinion about each row, and back to answers that can be kept.

What a teacher said is kept as it said it. Here it is put right, in this order:

1. each label order's class probabilities are divided by those of texts without content, where that was asked for;
2. label orders are averaged, sampled answers vote;
3. the class probabilities are scaled by one temperature, where that was asked for.

What comes out is an answer like any other, so that whoever uses it need not know how it was made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mlxdistill.statistics.resampling import Floats
from mlxdistill.tasks.protocols import Answer
from mlxdistill.teacher.correction import scaled, smoothed_votes, without_bias
from mlxdistill.teacher.votes import NONE, Opinions, majority, make_opinions, mean

SINGLE, CONTENT_FREE, LABEL_ORDERS, SAMPLES, TEMPERATURE = (
    "single answer",
    "content_free",
    "label_orders",
    "samples",
    "temperature",
)
AnswersById = Mapping[str, Answer]


@dataclass(frozen=True, slots=True)
class Rule:
    """How one teacher's answers to a row become one.

    Attributes:
        samples: the numbers of its answers to each row.
        votes: whether these vote (sampled answers) or are averaged (label orders).
        content_free: for each sample, the class probabilities (K,) of texts without content; None: not corrected.
        temperature: None: not scaled.
    """

    samples: tuple[int, ...] = (0,)
    votes: bool = False
    content_free: tuple[Floats, ...] | None = None
    temperature: float | None = None

    def steps(self, raw: Sequence[Opinions]) -> dict[str, Opinions]:
        """The opinion after each step of the rule, by the step's name; the last is what the teacher thinks.

        Args:
            raw: for each sample, the opinions of single answers about the same rows.
        """
        found = {SINGLE: raw[0]}
        members = list(raw)
        if self.content_free is not None:
            pairs = zip(raw, self.content_free, strict=True)
            members = [one.with_shares(without_bias(one.shares, free)).relabelled() for one, free in pairs]
            found[CONTENT_FREE] = members[0]
        if len(members) > 1:
            found[SAMPLES if self.votes else LABEL_ORDERS] = majority(members) if self.votes else mean(members)
        if self.temperature is not None:
            opinions = self.unscaled(list(found.values())[-1])
            found[TEMPERATURE] = opinions.with_shares(scaled(opinions.shares, self.temperature))
        return found

    def unscaled(self, opinions: Opinions) -> Opinions:
        """What a temperature is fitted to: class probabilities none of which is 0 for want of samples."""
        if not self.votes or len(self.samples) == 1:
            return opinions
        return opinions.with_shares(smoothed_votes(opinions.shares, len(self.samples)))


def content_free_shares(opinions: Opinions) -> Floats:
    """The mean class probabilities (K,) of the answers to texts without content."""
    shares: Floats = opinions.shares[opinions.graded].mean(axis=0)
    return shares


def opinions_of(ids: Sequence[str], answers: AnswersById, labels: Sequence[str]) -> Opinions:
    """What the answers say about these rows, in this order; who is not in `answers` did not answer.

    Args:
        labels: the task's, in the order of all class probabilities.
    """
    position = {label: index for index, label in enumerate(labels)}
    places = np.full(len(ids), NONE, dtype=np.int64)
    shares = np.zeros((len(ids), len(labels)))
    answered = np.zeros(len(ids), dtype=np.bool_)
    agreement = np.full(len(ids), np.nan)
    for index, row_id in enumerate(ids):
        answer = answers.get(row_id)
        if answer is None or answer.outcome == "missing":
            continue
        answered[index] = True
        if answer.label is not None:
            places[index] = position[answer.label]
            if answer.probabilities is not None:
                shares[index] = answer.probabilities
        if answer.agreement is not None:
            agreement[index] = answer.agreement
    return replace(make_opinions(places, shares, answered=answered), agreement=agreement)


def answers_from(
    ids: Sequence[str], opinions: Opinions, members: Sequence[AnswersById], labels: Sequence[str]
) -> list[Answer]:
    """One answer for each row that any member answered.

    Args:
        members: the answers that the opinions were made of. Their seconds are added up; the text is that of the first
            that named the label; a row that did not fit for one did not fit.
    """
    made = []
    for index, row_id in enumerate(ids):
        given = [answers[row_id] for answers in members if row_id in answers and answers[row_id].outcome != "missing"]
        if not given:
            continue
        place = int(opinions.labels[index])
        label = None if place == NONE else labels[place]
        truncated = any(answer.outcome == "truncated" for answer in given)
        texts = (answer.text for answer in given if answer.label == label)
        share = float(opinions.agreement[index])
        copied = {answer.copied_from for answer in given}
        made.append(
            Answer(
                row_id,
                label,
                tuple(opinions.shares[index].tolist()) if opinions.graded[index] else None,
                outcome="unparsable" if label is None else "truncated" if truncated else "answered",
                text=next(texts, None),
                seconds=sum(answer.seconds for answer in given),
                agreement=None if np.isnan(share) else share,
                copied_from=copied.pop() if len(copied) == 1 else None,
            )
        )
    return made
