"""The filters in their order, and what each left over.

A row dropped by one filter is not shown to the next, so that the counts add up to the pool.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mlxdistill.config.filter import FilterConfig
from mlxdistill.filters import answered, exact_duplicates
from mlxdistill.filters.candidate import Candidate, Filter
from mlxdistill.filters.confidence import Confidence
from mlxdistill.filters.length import Length
from mlxdistill.store import Decision


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """What one filter did: rows kept, and rows dropped by reason."""

    filter: str
    kept: int
    dropped: dict[str, int]


def filters_of(config: FilterConfig) -> list[Filter]:
    """The configured filters, in the order they run."""
    filters: list[Filter] = [answered.decide]
    if config.min_characters is not None or config.max_characters is not None:
        filters.append(Length(config.min_characters, config.max_characters))
    if config.exact_duplicates:
        filters.append(exact_duplicates.decide)
    if config.min_confidence is not None:
        filters.append(Confidence(config.min_confidence))
    return filters


def run_filters(filters: Sequence[Filter], candidates: Sequence[Candidate]) -> list[Decision]:
    """Every decision taken, in the filters' order."""
    decisions: list[Decision] = []
    for decide in filters:
        taken = list(decide(candidates))
        decisions.extend(taken)
        candidates = [candidate for candidate, decision in zip(candidates, taken, strict=True) if decision.kept]
    return decisions


def funnel(decisions: Sequence[Decision]) -> list[FunnelStep]:
    """The decisions summed up, filter by filter, in the order they were taken."""
    kept: Counter[str] = Counter()
    dropped: dict[str, Counter[str]] = {}
    for decision in decisions:
        reasons = dropped.setdefault(decision.filter, Counter())
        kept[decision.filter] += decision.kept
        if not decision.kept:
            reason = "the same text as another row" if decision.filter == exact_duplicates.NAME else decision.reason
            reasons[reason] += 1
    return [FunnelStep(name, kept[name], dict(reasons.most_common())) for name, reasons in dropped.items()]


def dropped_rows(decisions: Sequence[Decision]) -> set[str]:
    return {decision.row_id for decision in decisions if not decision.kept}
