"""The filters in their order, and what each left over.

A row dropped by one filter is not shown to the next, so that the counts add up to the pool. Cheap filters come first: a
model is only asked about rows that are left. The cap per class comes last, so that it counts the rows that teach.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from mlxdistill.config.filter import FilterConfig
from mlxdistill.filters import answered, exact_duplicates, near_duplicates
from mlxdistill.filters.agreement import Agreement
from mlxdistill.filters.candidate import BY_PERSON, Candidate, Filter, is_about_labels
from mlxdistill.filters.class_cap import ClassCap
from mlxdistill.filters.confidence import Confidence
from mlxdistill.filters.length import Length
from mlxdistill.filters.margin import Margin
from mlxdistill.filters.near_duplicates import NearDuplicates
from mlxdistill.filters.rules import Rule
from mlxdistill.store import Decision

MOST_EXAMPLES = 5
# Of reasons that name another row: what they have in common.
_WITHOUT_ROW = {
    exact_duplicates.NAME: "the same text as another row",
    near_duplicates.NAME: "nearly the same text as another row",
}


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """How many rows with one label a filter kept and dropped."""

    kept: int
    dropped: int


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """What one filter did.

    Attributes:
        kept: rows.
        dropped: rows, by reason, the most frequent first.
        classes: by the label of the answer; rows without a label are in none.
        examples: by reason, the ids of some dropped rows.
        treated: rows that teach, but count otherwise (`weighed`) or say something else (`softened`, `flipped`).
    """

    filter: str
    kept: int
    dropped: dict[str, int]
    classes: dict[str, ClassCounts] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    treated: dict[str, int] = field(default_factory=dict)


def filters_of(config: FilterConfig, learned: Sequence[Filter] = ()) -> list[Filter]:
    """The configured filters, in the order they run.

    Args:
        learned: those that ask a model, which the caller has made.
    """
    filters: list[Filter] = [answered.decide]
    if config.min_characters is not None or config.max_characters is not None:
        filters.append(Length(config.min_characters, config.max_characters))
    if config.exact_duplicates:
        filters.append(exact_duplicates.decide)
    if config.min_confidence is not None:
        filters.append(Confidence(config.min_confidence))
    if config.min_margin is not None:
        filters.append(Margin(config.min_margin))
    if config.agreement is not None:
        filters.append(Agreement(config.agreement))
    filters += map(Rule, config.rules)
    if config.near_duplicates is not None:
        filters.append(NearDuplicates(config.near_duplicates))
    filters += learned
    if config.most_per_class is not None:
        filters.append(ClassCap(config.most_per_class, config.seed))
    return filters


def run_filters(filters: Sequence[Filter], candidates: Sequence[Candidate]) -> list[Decision]:
    """Every decision taken, in the filters' order."""
    decisions: list[Decision] = []
    for decide in filters:
        taken = [
            _passed_by(candidate, decision) for candidate, decision in zip(candidates, decide(candidates), strict=True)
        ]
        decisions.extend(taken)
        candidates = [candidate for candidate, decision in zip(candidates, taken, strict=True) if decision.kept]
    return decisions


def _passed_by(candidate: Candidate, decision: Decision) -> Decision:
    """The decision, but a filter about labels neither drops nor treats a label by a person."""
    untouched = decision.kept and not decision.is_treatment
    if untouched or not candidate.by_person or not is_about_labels(decision.filter):
        return decision
    return replace(decision, kept=True, reason=BY_PERSON, weight=None, label=None, probabilities=None)


def funnel(decisions: Sequence[Decision], labels: Mapping[str, str | None] = MappingProxyType({})) -> list[FunnelStep]:
    """The decisions summed up, filter by filter, in the order they were taken.

    Args:
        labels: row id -> the label of its answer.
    """
    steps: dict[str, list[Decision]] = {}
    for decision in decisions:
        steps.setdefault(decision.filter, []).append(decision)
    return [_step(name, taken, labels) for name, taken in steps.items()]


def _step(name: str, decisions: Sequence[Decision], labels: Mapping[str, str | None]) -> FunnelStep:
    counts = Counter((labels.get(decision.row_id), decision.kept) for decision in decisions)
    classes = dict.fromkeys(label for label, _ in counts if label is not None)
    examples: dict[str, list[str]] = {}
    reasons: Counter[str] = Counter()
    for decision in decisions:
        if not decision.kept:
            reason = _WITHOUT_ROW.get(name, decision.reason)
            reasons[reason] += 1
            examples.setdefault(reason, []).append(decision.row_id)
    return FunnelStep(
        name,
        kept=sum(decision.kept for decision in decisions),
        dropped=dict(reasons.most_common()),
        classes={label: ClassCounts(counts[label, True], counts[label, False]) for label in sorted(classes)},
        examples={reason: examples[reason][:MOST_EXAMPLES] for reason, _ in reasons.most_common()},
        treated=dict(Counter(kind for decision in decisions if decision.kept for kind in _treatments(decision))),
    )


def _treatments(decision: Decision) -> Iterator[str]:
    if decision.weight is not None:
        yield "weighed"
    if decision.label is not None:
        yield "flipped"
    elif decision.probabilities is not None:
        yield "softened"


def dropped_rows(decisions: Sequence[Decision]) -> set[str]:
    return {decision.row_id for decision in decisions if not decision.kept}
