"""What the user should know of a filtering: limits that touch nothing, classes that were eaten, an empty pool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence

from mlxdistill.config.filter import FilterConfig
from mlxdistill.errors import DataError
from mlxdistill.filters import answered, class_cap, dynamics, held_out, in_budget, length, noise
from mlxdistill.filters.funnel import FunnelStep
from mlxdistill.filters.rules import PREFIX
from mlxdistill.store import Decision
from mlxdistill.tasks.protocols import Answer

MUCH = 0.5  # of a class
MOST_CLASSES_NAMED = 5
# Filters that are meant to take whole classes, or do not look at labels' worth at all.
_UNWARNED = (answered.NAME, held_out.NAME, in_budget.NAME, class_cap.NAME)
_KEYS = {
    length.NAME: "filter.min_characters and filter.max_characters",
    answered.NAME: "labelling",
    held_out.NAME: "the test sets",
    in_budget.NAME: "`label --budget`",
}


def key_of_filter(name: str) -> str:
    """What the user set to have this filter."""
    return _KEYS.get(name) or (
        f"filter.rules ({name.removeprefix(PREFIX)})" if name.startswith(PREFIX) else f"filter.{name}"
    )


def unheeded(config: FilterConfig, answers: Collection[Answer]) -> Iterator[str]:
    """Limits that some of the answers have nothing to be held against."""
    labelled = [answer for answer in answers if answer.label is not None]
    ungraded = sum(answer.probabilities is None for answer in labelled)
    limits = [name for name in ("min_confidence", "min_margin") if getattr(config, name) is not None]
    if ungraded and limits:
        keys = " and ".join(f"filter.{name}" for name in limits)
        yield f"{ungraded:,} answers have no probabilities: {keys} {'do' if limits[1:] else 'does'} not touch them"
    silent = sum(answer.text is None for answer in labelled)
    for rule in config.rules:
        if silent and rule.about == "answer":
            yield f"{silent:,} answers have no text: {key_of_filter(PREFIX + rule.title)} does not touch them"
    single = sum(answer.agreement is None for answer in labelled)
    if single and config.agreement is not None:
        yield f"{single:,} rows were answered once only: filter.agreement does not touch them"


def unjudged(decisions: Iterable[Decision]) -> Iterator[str]:
    """Filters that could not judge some rows, which they kept."""
    counts = Counter((decision.filter, decision.kept and decision.score is None) for decision in decisions)
    for name in (noise.NAME, dynamics.NAME):
        if missed := counts[name, True]:
            of = missed + counts[name, False]
            yield f"{key_of_filter(name)} could not judge {missed:,} of {of:,} rows: `mlxdistill labels show` says why"


def eaten(steps: Sequence[FunnelStep]) -> Iterator[str]:
    """Filters that take more than half of a class, or all of it."""
    for step in steps:
        if step.filter in _UNWARNED:
            continue
        found = {
            label: counts
            for label, counts in step.classes.items()
            if counts.dropped > MUCH * (counts.kept + counts.dropped)
        }
        if not found:
            continue
        worst = sorted(found, key=lambda label: (found[label].kept > 0, -found[label].dropped, label))
        shown = [
            f"{found[label].dropped:,} of the {found[label].kept + found[label].dropped:,} rows labelled {label}"
            + ("" if found[label].kept else " (none is left)")
            for label in worst[:MOST_CLASSES_NAMED]
        ]
        more = f", and more than half of {len(worst) - len(shown):,} other classes" if len(worst) > len(shown) else ""
        yield f"{key_of_filter(step.filter)} takes {', '.join(shown)}{more}"


def check_some_left(steps: Sequence[FunnelStep], rows: int, kept: int, where: str) -> None:
    """Raises DataError where no row is left to learn from; it names the filter that took most."""
    if kept or not rows:
        return
    most = max(steps, key=lambda step: sum(step.dropped.values()))
    taken = sum(most.dropped.values())
    hint = (
        f"loosen {key_of_filter(most.filter)}, or give more rows; `mlxdistill labels show RUN ROW` says why a row went"
    )
    if most.filter in _KEYS and most.filter != length.NAME:
        hint = "label more rows" if most.filter != held_out.NAME else "give more rows, or smaller test sets"
    reason = next(iter(most.dropped))
    message = f"no row is left to learn from: {key_of_filter(most.filter)} took {taken:,} of {rows:,} ({reason})"
    raise DataError(message, where=where, hint=hint)
