"""Why a row is worth a person's look, and how much.

Every signal is there before anybody is asked: class probabilities, several answers to one row, the scores of filters,
the predictions of the last student. None of them needs gold, but for a student's mistakes on rows that have it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlxdistill.experiments.review.opinions import Opinion
from mlxdistill.store import Decision
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row

MISLABELLED, DISAGREEMENT, MARGIN, MISTAKE = "mislabelled", "disagreement", "margin", "mistake"
KINDS = (DISAGREEMENT, MARGIN, MISLABELLED, MISTAKE)
UNPARSABLE, CONTROL, NO_GOLD = "unparsable", "control", "no_gold"

LOW_MARGIN = 0.5
SUSPICIOUS = 0.05  # of the rows that a filter for noise has scored: the share worth a look, whatever it did
NOISE_FILTERS = ("noise", "dynamics", "judge")

SENTENCES = {
    UNPARSABLE: "The teacher's answer names no label.",
    CONTROL: "Drawn at random from the rows that nothing points at, to see how many of those are wrong.",
    NO_GOLD: "A row without gold. These come in random order, and what the teacher answered is not shown.",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason: its kind, how it is told to the person, and its weight, from 0 to 1."""

    kind: str
    sentence: str
    weight: float = 0.0


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the last student said about a test row, and how sure it was."""

    label: str | None
    share: float | None


@dataclass(frozen=True, slots=True)
class Signals:
    """What is known of all rows of a set before they are looked at one by one.

    Attributes:
        names: the task's labels.
        wanted: the kinds of reasons that count.
        suspicion: row id -> (what a filter for noise said, its rank among all, from 0 to 1).
        predictions: row id -> the last student's.
    """

    names: Sequence[str]
    wanted: Collection[str]
    suspicion: Mapping[str, tuple[Decision, float]]
    predictions: Mapping[str, Prediction]

    def reasons(self, row: Row, answer: Answer | None, opinions: Sequence[Opinion]) -> tuple[Reason, ...]:
        """The reasons for a look at this row, the weightiest first."""
        found = [reason for reason in self._all(row, answer, opinions) if reason.kind in self.wanted]
        return tuple(sorted(found, key=lambda reason: -reason.weight))

    def _all(self, row: Row, answer: Answer | None, opinions: Sequence[Opinion]) -> Iterator[Reason]:
        if answer is not None and answer.label is None:
            yield Reason(UNPARSABLE, SENTENCES[UNPARSABLE], 0.6)
        if row.id in self.suspicion:
            decision, rank = self.suspicion[row.id]
            low = f"score {decision.score or 0:.2f}, among the lowest"
            what = decision.reason if _is_named(decision) else low
            yield Reason(MISLABELLED, f"The {decision.filter} filter doubts the label: {what}.", 0.5 + rank / 2)
        yield from self._margin(answer)
        yield from _disagreement(answer, opinions)
        yield from self._mistakes(row, answer)

    def _margin(self, answer: Answer | None) -> Iterator[Reason]:
        if answer is None or answer.probabilities is None or len(answer.probabilities) < 2:
            return
        ranked = sorted(zip(answer.probabilities, self.names, strict=True), key=lambda pair: -pair[0])
        (first, best), (second, next_best) = ranked[:2]
        if first - second < LOW_MARGIN:
            sentence = f"Low margin: {best} {percent(first)}, {next_best} {percent(second)}."
            yield Reason(MARGIN, sentence, 0.8 * (1 - (first - second)))

    def _mistakes(self, row: Row, answer: Answer | None) -> Iterator[Reason]:
        said = self.predictions.get(row.id)
        if said is not None and row.gold is not None and said.label != row.gold:
            yield Reason(
                MISTAKE, f"A mistake of the last student: it said {_said(said)}, gold is {row.gold}.", _sure(said)
            )
        if answer is None or answer.label is None:
            return
        if row.gold is not None and answer.label != row.gold:
            yield Reason(MISTAKE, f"A mistake of the teacher: it said {answer.label}, gold is {row.gold}.", 0.5)
        elif row.gold is None and said is not None and said.label != answer.label:
            yield Reason(MISTAKE, f"The last student disagrees with the teacher: it said {_said(said)}.", _sure(said))


def _disagreement(answer: Answer | None, opinions: Sequence[Opinion]) -> Iterator[Reason]:
    total = sum(opinion.times for opinion in opinions)
    if answer is None or total < 2:
        return
    differ = sum(opinion.times for opinion in opinions if opinion.label != answer.label)
    if differ:
        yield Reason(DISAGREEMENT, f"Opinions that differ: {differ} of {total}.", 0.4 + 0.6 * differ / total)


def suspicions(decisions: Sequence[Decision]) -> dict[str, tuple[Decision, float]]:
    """The decisions of filters for noise that are worth a look: row id -> the decision and its rank.

    Rows that were dropped or treated, and of all that have a score those with the lowest: it says how well a label is
    spoken for. Of several filters, the one that ranks the row highest.
    """
    found: dict[str, tuple[Decision, float]] = {}
    for name in dict.fromkeys(decision.filter for decision in decisions):
        scored = [each for each in decisions if each.filter == name and each.score is not None]
        scored.sort(key=lambda each: (-(each.score or 0.0), each.row_id))
        for place, decision in enumerate(scored, start=1):
            rank = place / len(scored)
            named = _is_named(decision) or rank > 1 - SUSPICIOUS
            if named and rank > found.get(decision.row_id, (decision, 0.0))[1]:
                found[decision.row_id] = (decision, rank)
    return found


def _is_named(decision: Decision) -> bool:
    """Whether the filter did something about the label."""
    return not decision.kept or decision.is_treatment


def worth(reasons: Sequence[Reason]) -> float:
    """How much a row with these reasons is worth a look: one good reason outweighs several weak ones."""
    return 1 - math.prod(1 - reason.weight for reason in reasons)


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _said(prediction: Prediction) -> str:
    sure = "" if prediction.share is None else f" ({percent(prediction.share)})"
    return f"{prediction.label or 'no label'}{sure}"


def _sure(prediction: Prediction) -> float:
    return 0.5 + (prediction.share or 0.0) / 2.1
