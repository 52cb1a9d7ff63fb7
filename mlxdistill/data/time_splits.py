"""Splits by date: the pool is what was written first, validation rows come after it, test rows are the latest.

A student is used on what is written after it was trained, so it is chosen and tested on later rows than it learned
from. The latest rows that suffice to fill the test sets are their window, the latest before it that of validation.
What a window does not give to its sets is in none: a model tested on last month's rows has not learned from last
month's. No window takes more than its sets' share of half of all rows, so where a label is rare among the latest rows,
test_balanced gets smaller instead of reaching far back. Rows written at the same time are in one window.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from mlxdistill.data.deck import Cards, Deck, Places, apportion
from mlxdistill.data.latest import Times, latest, nothing_left
from mlxdistill.data.splits import (
    Asked,
    Splits,
    Wanted,
    asked_of,
    class_counts,
    draw_natural,
    draw_tests,
    per_label_among,
)
from mlxdistill.data.times import shown_time

TESTS = ("test_balanced", "test_indist")


def draw_by_time(cards: Cards, times: Times, wanted: Wanted) -> Splits:
    """Draws the sets by time, each within its window in the order of drawing.

    Of a group, or of near duplicates, that give a row to a set, the earlier rows are left out of what comes before.

    Args:
        times: of each row, in milliseconds since 1970.

    Raises DataError as `draw_splits`, and where so many rows were written at one time that no window can be cut.
    """
    asked = asked_of(cards, wanted)
    free = np.ones(len(cards), np.bool_)  # neither in a window nor of a unit that gave a row to a set
    drawn: dict[str, Places] = {}
    left_out = 0
    for names in (TESTS, ("valid",)):
        its = [name for name in names if asked.counts.get(name) and (name != "test_balanced" or asked.per_label)]
        if not its:
            continue
        places = np.flatnonzero(free)
        if not len(places):
            raise nothing_left()
        window = places[latest(cards.only(places), times[places], _needs(asked, its), asked.budget(*its))]
        found = _drawn_in(cards.only(window), asked, its)
        drawn |= {name: window[chosen] for name, chosen in found.items()}
        taken = np.concatenate([drawn[name] for name in its])
        free[window] = False
        allotted = np.isin(cards.units, cards.units[taken]) & (free | np.isin(np.arange(len(cards)), window))
        left_out += int(allotted.sum()) - len(taken)
        free[allotted] = False
        asked.notes.append(f"by data.time: {' and '.join(its)} from {shown_time(int(times[window].min()))} on")
    pool = np.flatnonzero(free)
    if not len(pool):
        raise nothing_left()
    asked.notes.append(f"by data.time: the pool ends at {shown_time(int(times[pool].max()))}")
    in_sets = len(pool) + sum(map(len, drawn.values()))
    return Splits(
        pool=pool,
        valid=drawn.get("valid"),
        test_indist=drawn.get("test_indist"),
        test_balanced=drawn.get("test_balanced"),
        left_out=left_out,
        notes=tuple(asked.notes),
        left_out_by_time=len(cards) - in_sets - left_out,
    )


def _needs(asked: Asked, names: Collection[str]) -> dict[str | None, int]:
    """How many rows of each label sets take that are drawn together."""
    needs = dict.fromkeys(asked.natural, asked.per_label if "test_balanced" in names else 0)
    for name in names:
        if name != "test_balanced":
            shares = apportion(asked.counts[name], asked.natural)
            needs = {label: count + shares[label] for label, count in needs.items()}
    return needs


def _drawn_in(cards: Cards, asked: Asked, names: Collection[str]) -> dict[str, Places]:
    """The sets, drawn from the rows of their window, in the proportions of these."""
    there = class_counts(cards)
    del there[None]
    natural = there if there.total() else asked.natural
    counts = {name: asked.counts[name] for name in names}
    within = replace(asked, counts=counts, natural=natural, rows=2 * len(cards))
    if "test_balanced" in names:
        within = _fewer_per_label(within, len(cards))
    deck = Deck(cards)
    if "valid" in names:
        return {"valid": draw_natural(deck, cards, within, "valid", whole=True)}
    return draw_tests(deck, cards, within)


def _fewer_per_label(asked: Asked, rows: int) -> Asked:
    """With as many rows a label in test_balanced as its window has besides those of test_indist."""
    natural, labels = asked.natural, [label for label in asked.natural if label is not None]
    shares = apportion(min(asked.counts.get("test_indist", 0), natural.total()), natural)
    there = {label: max(min(1, count), count - shares[label]) for label, count in natural.items()}
    per_label = per_label_among(there, labels, asked.per_label, rows, asked.notes)
    return replace(asked, per_label=per_label, counts={**asked.counts, "test_balanced": per_label * len(labels)})
