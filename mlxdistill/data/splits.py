"""Which rows test, which choose, which are labelled.

A split depends on which rows there are and on the seed alone (`data/deck.py`). Test sets are drawn first: without
groups, asking for another number of validation rows leaves them as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mlxdistill.data.deck import Deck, apportion
from mlxdistill.errors import DataError
from mlxdistill.tasks.rows import Row

SELECTION, CALIBRATION = "selection", "calibration"


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
    """The sets, each in the order of the source; None: not drawn.

    `left_out` counts the rows of allotted groups that no set has.
    """

    pool: tuple[Row, ...]
    valid: tuple[Row, ...] | None
    test_indist: tuple[Row, ...] | None
    test_balanced: tuple[Row, ...] | None
    left_out: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BalancedDraw:
    """A balanced test set drawn from a pool."""

    test_balanced: tuple[Row, ...]
    notes: tuple[str, ...]


def draw_splits(rows: Sequence[Row], labels: Sequence[str], wanted: Wanted, seed: int) -> Splits:
    """Draws test_balanced, test_indist and valid from the rows, which have distinct ids; what is left is the pool.

    With gold, sets are drawn from rows with gold: test_balanced with the same number for each label, the others in
    the proportions of all rows with gold. Without any gold they are random, and test_balanced is not drawn yet
    (`draw_balanced`).

    Raises DataError where the sets would take more than half of the rows, or a label has no row for test_balanced.
    """
    golden = [row for row in rows if row.gold is not None]
    notes: list[str] = []
    counts = wanted.counts
    per_label = 0
    if golden and "test_balanced" in counts:
        per_label = _rows_per_label(Counter(row.gold for row in golden), labels, counts["test_balanced"], notes)
        counts["test_balanced"] = per_label * len(labels)
    _check_sizes(len(rows), len(golden), counts)
    deck = Deck(rows, lambda row: row.gold, seed)
    budgets = {name: _budget(len(rows), counts, name) for name in counts}
    drawn: dict[str, tuple[Row, ...]] = {}
    if golden and per_label:
        drawn["test_balanced"] = deck.draw_balanced(labels, per_label, budgets["test_balanced"], notes)
    natural = Counter(row.gold for row in (golden or rows))
    for name in ("test_indist", "valid"):
        if name in counts:
            quotas = _quotas(counts[name], natural, deck.available)
            # Validation rows are many and choose together; test rows speak one by one, and most for themselves
            # when each is of a group of its own.
            whole = deck.draw_whole(quotas) if name == "valid" else ()
            there = Counter(row.gold for row in whole)
            missing = {label: max(0, count - there[label]) for label, count in quotas.items()}
            missing = dict(zip(missing, _at_most(counts[name] - len(whole), missing.values()), strict=True))
            drawn[name] = (*whole, *deck.draw(missing, budgets[name] - len(whole)))
            _check_filled(name, len(drawn[name]), counts[name], notes)
    if not golden and "test_balanced" in counts:
        notes.append("no gold: test_balanced is drawn from the teacher's answers, after labelling")
    if golden and len(golden) < len(rows):
        notes.append(f"rows without gold, all of them in the pool: {len(rows) - len(golden):,} of {len(rows):,}")
    valid = drawn.get("valid")
    return Splits(
        pool=deck.pool,
        valid=None if valid is None else halved(valid, seed),
        test_indist=drawn.get("test_indist"),
        test_balanced=drawn.get("test_balanced"),
        left_out=deck.left_out,
        notes=tuple(notes),
    )


def draw_balanced(
    rows: Sequence[Row], label_of: Mapping[str, str], total: int, seed: int, labels: Sequence[str]
) -> BalancedDraw:
    """Draws test_balanced from a labelled pool, by the label that `label_of` gives for each row's id.

    Rows without a label are not drawn. Labels that no row has are left out, with a note. Raises DataError where
    fewer than two labels have rows.
    """
    notes: list[str] = []
    counts: Counter[str | None] = Counter(label_of[row.id] for row in rows if row.id in label_of)
    present = [label for label in labels if counts[label]]
    if len(present) < 2:
        hint = "check the teacher's answers, or give a file under data.test.balanced"
        raise DataError("test_balanced needs rows of two labels at least", where="data.test.balanced", hint=hint)
    absent = [label for label in labels if not counts[label]]
    if absent:
        notes.append(f"test_balanced has no row of {_named(absent)}: the teacher answered so for no row")
    per_label = _rows_per_label(counts, present, total, notes)
    deck = Deck(rows, lambda row: label_of.get(row.id), seed)
    drawn = deck.draw_balanced(present, per_label, max(len(rows) // 2, per_label * len(present)), notes)
    return BalancedDraw(drawn, tuple(notes))


def _at_most(total: int, counts: Iterable[int]) -> Iterator[int]:
    """The counts in their order, cut where their sum would exceed `total`."""
    for count in counts:
        share = min(count, total)
        total -= share
        yield share


def halved(rows: Sequence[Row], seed: int) -> tuple[Row, ...]:
    """The validation rows with `meta["half"]`: selection or calibration, as equal in size and class balance as whole
    groups allow."""
    deck = Deck(rows, lambda row: row.gold, seed)
    totals: Counter[str] = Counter()
    by_class: Counter[tuple[str | None, str]] = Counter()
    half_of: dict[int, str] = {}
    for label in sorted(deck.by_class, key=str):
        for group in deck.by_class[label]:
            members = [index for index in deck.groups[group] if index not in half_of]
            half = min(
                (SELECTION, CALIBRATION), key=lambda half: (by_class[label, half], totals[half], half != SELECTION)
            )
            for index in members:
                half_of[index] = half
                totals[half] += 1
                by_class[rows[index].gold, half] += 1
    return tuple(replace(row, meta={**row.meta, "half": half_of[index]}) for index, row in enumerate(rows))


def _quotas(
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


def _check_filled(name: str, count: int, asked: int, notes: list[str]) -> None:
    if count == 0:
        hint = "set data.group: null, add rows, or give a file for this set"
        raise DataError(f"the groups are too large to draw any row for {name}", where="data.group", hint=hint)
    if count < asked:
        notes.append(f"{name} has {count:,} rows, not {asked:,}: the groups are too large to give more")


def _budget(rows: int, counts: Mapping[str, int], name: str) -> int:
    """How many rows the groups allotted to a set may have together: its share of half of all rows."""
    return max(counts[name], rows * counts[name] // (2 * sum(counts.values())))


def _named(labels: Sequence[str]) -> str:
    return ", ".join(map(repr, labels[:5])) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")
