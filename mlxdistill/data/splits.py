"""Which rows test, which choose, which are labelled.

A split depends on which rows there are and on the seed alone (`data/deck.py`). Test sets are drawn first: without
groups, asking for another number of validation rows leaves them as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlxdistill.data.deck import SMALLER_UNITS, Cards, Deck, Places, apportion
from mlxdistill.data.latest import latest
from mlxdistill.errors import DataError
from mlxdistill.tasks.rows import Row


@dataclass(frozen=True, slots=True)
class Wanted:
    """How many rows to draw for each set; None: none."""

    valid: int | None = None
    test_indist: int | None = None
    test_balanced: int | None = None

    @property
    def counts(self) -> dict[str, int]:
        every = {"valid": self.valid, "test_indist": self.test_indist, "test_balanced": self.test_balanced}
        return {name: count for name, count in every.items() if count is not None}


@dataclass(frozen=True, slots=True)
class Splits:
    """The places of the rows of each set, ascending; None: not drawn.

    `left_out` counts the rows of allotted units (`data/deck.py`) that no set has; `left_out_by_time` the others that
    none has.
    """

    pool: Places
    valid: Places | None
    test_indist: Places | None
    test_balanced: Places | None
    left_out: int
    notes: tuple[str, ...]
    left_out_by_time: int = 0

    @property
    def sets(self) -> dict[str, Places]:
        """Those that were drawn, and the pool."""
        drawn = {"valid": self.valid, "test_indist": self.test_indist, "test_balanced": self.test_balanced}
        return {"pool": self.pool, **{name: places for name, places in drawn.items() if places is not None}}


@dataclass(frozen=True, slots=True)
class BalancedDraw:
    """A balanced test set drawn from a pool."""

    test_balanced: tuple[Row, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be drawn from some rows.

    Attributes:
        counts: rows for each set; test_balanced has `per_label` for each label, 0 where it is not drawn yet.
        natural: how many rows have each label, of those with gold; without any, all rows under None.
        notes: what the user should know of it.
    """

    counts: dict[str, int]
    per_label: int
    natural: Counter[str | None]
    rows: int
    notes: list[str]

    def budget(self, *names: str) -> int:
        """How many rows the units allotted to some sets may have together: their share of half of all rows."""
        count = sum(self.counts[name] for name in names)
        return max(count, self.rows * count // (2 * sum(self.counts.values())))


def asked_of(cards: Cards, wanted: Wanted) -> Asked:
    """Raises DataError where the sets would take more than half of the rows, or test_balanced lacks a label."""
    natural = class_counts(cards)
    golden = natural.total() - natural[None]
    notes: list[str] = []
    counts = wanted.counts
    per_label = 0
    if "test_balanced" in counts and golden:
        per_label = _rows_per_label(natural, cards.labels, counts["test_balanced"], notes)
        counts["test_balanced"] = per_label * len(cards.labels)
    _check_sizes(len(cards), golden, counts)
    if "test_balanced" in counts and not golden:
        notes.append("no gold: test_balanced is drawn from the teacher's answers, after labelling")
    if golden:
        del natural[None]
    return Asked(counts, per_label, natural, len(cards), notes)


def draw_splits(cards: Cards, wanted: Wanted) -> Splits:
    """Draws test_balanced, test_indist and valid from rows with distinct ids; what is left is the pool.

    With gold, sets are drawn from rows with gold: test_balanced with the same number for each label, the others in
    the proportions of all rows with gold. Without any gold they are random, and test_balanced is not drawn yet
    (`draw_balanced`).

    Raises DataError where the sets would take more than half of the rows, or a label has no row for test_balanced.
    """
    asked = asked_of(cards, wanted)
    deck = Deck(cards)
    drawn = draw_tests(deck, cards, asked)
    if "valid" in asked.counts:
        # Validation rows are many and choose together; test rows speak one by one, and most for themselves when each
        # is of a unit of its own.
        drawn["valid"] = draw_natural(deck, cards, asked, "valid", whole=True)
    golden = asked.natural.total()
    if golden < len(cards):
        asked.notes.append(f"rows without gold, all of them in the pool: {len(cards) - golden:,} of {len(cards):,}")
    return Splits(
        pool=deck.pool,
        valid=drawn.get("valid"),
        test_indist=drawn.get("test_indist"),
        test_balanced=drawn.get("test_balanced"),
        left_out=deck.left_out,
        notes=tuple(asked.notes),
    )


def draw_tests(deck: Deck, cards: Cards, asked: Asked) -> dict[str, Places]:
    """The test sets that are asked for, as far as there is gold for them."""
    drawn: dict[str, Places] = {}
    if asked.per_label:
        budget = asked.budget("test_balanced")
        drawn["test_balanced"] = deck.draw_balanced(cards.labels, asked.per_label, budget, asked.notes)
    if "test_indist" in asked.counts:
        drawn["test_indist"] = draw_natural(deck, cards, asked, "test_indist", whole=False)
    return drawn


def class_counts(cards: Cards) -> Counter[str | None]:
    """How many rows have each label, in the order of the labels; under None: those without."""
    found = np.bincount(cards.classes + 1, minlength=len(cards.labels) + 1).tolist()
    return Counter(dict(zip((*cards.labels, None), [*found[1:], found[0]], strict=True)))


def draw_natural(deck: Deck, cards: Cards, asked: Asked, name: str, *, whole: bool) -> Places:
    """Rows for a set in the natural proportions. `whole`: of units that are taken entire, as far as that goes."""
    count, budget = asked.counts[name], asked.budget(name)
    quotas = quotas_of(count, asked.natural, deck.available)
    taken = deck.draw_whole(quotas) if whole else np.empty(0, np.int64)
    there = class_counts(cards.only(taken))
    missing = {label: max(0, quota - there[label]) for label, quota in quotas.items()}
    missing = dict(zip(missing, _at_most(count - len(taken), missing.values()), strict=True))
    drawn = np.sort(np.concatenate([taken, deck.draw(missing, budget - len(taken))]))
    if not len(drawn):
        hint = SMALLER_UNITS + "or give a file for this set"
        raise DataError(f"the groups are too large to draw any row for {name}", where="data.group", hint=hint)
    if len(drawn) < count:
        asked.notes.append(f"{name} has {len(drawn):,} rows, not {count:,}: the groups are too large to give more")
    return drawn


def draw_balanced(
    rows: Sequence[Row], label_of: Mapping[str, str], total: int, seed: int, labels: Sequence[str]
) -> BalancedDraw:
    """Draws test_balanced from a labelled pool, by the label that `label_of` gives for each row's id.

    Rows without a label are not drawn. Labels that no row has are left out, with a note. Where rows have a time
    (`meta["time"]`, see `data.times.shown_time`), the latest of them are drawn from. Raises DataError where fewer than
    two labels have rows.
    """
    notes: list[str] = []
    cards = Cards.of(rows, lambda row: label_of.get(row.id), labels, seed)
    counts = class_counts(cards)
    present = [label for label in labels if counts[label]]
    if len(present) < 2:
        hint = "check the teacher's answers, or give a file under data.test.balanced"
        raise DataError("test_balanced needs rows of two labels at least", where="data.test.balanced", hint=hint)
    absent = [label for label in labels if not counts[label]]
    if absent:
        notes.append(f"test_balanced has no row of {_named(absent)}: the teacher answered so for no row")
    per_label = _rows_per_label(counts, present, total, notes)
    budget = max(len(rows) // 2, per_label * len(present))
    places = np.arange(len(rows))
    if all("time" in row.meta for row in rows):
        _, times = np.unique([row.meta["time"] for row in rows], return_inverse=True)
        places = latest(cards, times, dict.fromkeys(present, per_label), budget)
        per_label = per_label_among(class_counts(cards.only(places)), present, per_label, len(places), notes)
    drawn = places[Deck(cards.only(places)).draw_balanced(present, per_label, budget, notes)]
    return BalancedDraw(tuple(rows[place] for place in drawn.tolist()), tuple(notes))


def per_label_among(
    there: Mapping[str | None, int], labels: Sequence[str], per_label: int, latest: int, notes: list[str]
) -> int:
    """How many rows of each label test_balanced gets where it is drawn from the latest rows, which hold `there`."""
    rarest = min(labels, key=lambda label: there[label])
    if not there[rarest]:
        raise DataError(
            f"test_balanced needs rows of every label, and among the latest {latest:,} rows is none of {rarest!r}",
            where="data.time",
            hint="give a file under data.test.balanced, set it to null, or leave data.time out",
        )
    if there[rarest] < per_label:
        notes.append(
            f"test_balanced has {there[rarest]} rows a label, not {per_label}: "
            f"the latest {latest:,} rows have no more of {rarest!r} for it"
        )
    return min(per_label, there[rarest])


def _at_most(total: int, counts: Iterable[int]) -> Iterator[int]:
    """The counts in their order, cut where their sum would exceed `total`."""
    for count in counts:
        share = min(count, total)
        total -= share
        yield share


def halved(cards: Cards) -> NDArray[np.bool_]:
    """Which of the validation rows calibrate; the others select. As equal in size and class balance as whole units
    allow."""
    deck = Deck(cards)
    totals = [0, 0]
    by_class: Counter[tuple[int, int]] = Counter()
    half_of: dict[int, int] = {}
    for label in sorted(deck.by_class, key=str):
        number = cards.labels.index(label) if label is not None else -1
        for unit in deck.by_class[label]:
            members = [place for place in deck.members(unit) if place not in half_of]
            half = min((0, 1), key=lambda half: (by_class[number, half], totals[half], half))
            for place in members:
                half_of[place] = half
                totals[half] += 1
                by_class[int(cards.classes[place]), half] += 1
    return np.array([half_of[place] for place in range(len(cards))], np.bool_)


def quotas_of(
    total: int, natural: Mapping[str | None, int], available: Mapping[str | None, int]
) -> dict[str | None, int]:
    """The natural shares; what a class no longer has is taken from the others in proportion to what they have left."""
    quotas = {label: min(share, available[label]) for label, share in apportion(total, natural).items()}
    spare = {label: available[label] - quota for label, quota in quotas.items()}
    missing = min(total - sum(quotas.values()), sum(spare.values()))
    return {label: quotas[label] + more for label, more in apportion(missing, spare).items()}


def _rows_per_label(counts: Mapping[str | None, int], labels: Sequence[str], total: int, notes: list[str]) -> int:
    """How many rows of each label test_balanced gets: no label gives more than half of its rows, and each the same."""
    absent = [label for label in labels if not counts.get(label)]
    if absent:
        raise DataError(
            f"test_balanced needs gold rows of every label, and there is none of {_named(absent)}",
            where="data.test.balanced",
            hint="add rows with that gold, give a file, set it to null, or take the label out of task.labels",
        )
    asked = max(1, total // len(labels))
    rarest = min(labels, key=lambda label: counts[label])
    most = max(1, counts[rarest] // 2)
    if asked * len(labels) > total:
        notes.append(f"test_balanced has {len(labels)} rows, one a label, though data.test.balanced is {total}")
    if most < asked:
        notes.append(
            f"test_balanced has {most} rows a label, not {asked}: "
            f"of the {counts[rarest]} rows of {rarest!r} half at most are drawn"
        )
    return min(asked, most)


def _check_sizes(rows: int, golden: int, counts: Mapping[str, int]) -> None:
    asked = sum(counts.values())
    parts = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    possible = rows // 2
    if asked * 2 > rows:
        message = f"the drawn sets take {asked:,} rows ({parts}), more than half of the {rows:,} there are"
    elif golden and asked > golden:
        message = f"the drawn sets take {asked:,} rows ({parts}), and only {golden:,} of {rows:,} rows have gold"
        possible = golden
    else:
        return
    keys = {"valid": "data.valid", "test_indist": "data.test.indist", "test_balanced": "data.test.balanced"}
    smaller = {keys[name]: count * possible // asked for name, count in counts.items()}
    example = ", ".join(f"{key}: {count}" for key, count in smaller.items())
    hint = "add rows" if 0 in smaller.values() else f"add rows, or lower the sets, for example {example}"
    raise DataError(message, where="data", hint=hint)


def _named(labels: Sequence[str]) -> str:
    return ", ".join(map(repr, labels[:5])) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")
