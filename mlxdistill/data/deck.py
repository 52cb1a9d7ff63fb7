"""Rows in the order of drawing.

The order is that of a seeded hash of each row's id (or of its group), so what is drawn depends on which rows there are
and on the seed, and on no order of lines, dictionaries or hash tables.

Rows of one unit stay on one side: those of a group, and those that are near duplicates of one another. A unit that
gives a row to a drawn set is allotted to it whole: its other rows are left out, unless the set cannot be filled from
one row a unit. Units that are large for a set, such as a thousand rows made from one template, come last: one row
of such a unit would cost all the others.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from mlxdistill.errors import DataError
from mlxdistill.tasks.rows import Row

Places = NDArray[np.int64]

LARGE = 5  # a unit is large for a set where it is more than this part of the rows that the set may allot


@dataclass(frozen=True, slots=True)
class Cards:
    """What drawing knows of rows, in the order of the source.

    Attributes:
        ranks: the order in which the rows of a unit are drawn.
        units: the same number for rows that stay together; the order in which units are drawn.
        classes: numbers of `labels`; -1: none.
    """

    ranks: NDArray[np.uint64]
    units: NDArray[np.uint64]
    classes: NDArray[np.int32]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ranks)

    def only(self, places: Places) -> Cards:
        return Cards(self.ranks[places], self.units[places], self.classes[places], self.labels)

    @classmethod
    def of(cls, rows: Sequence[Row], class_of: Callable[[Row], str | None], labels: Sequence[str], seed: int) -> Cards:
        """Of rows in memory. Their units: `meta["group"]`, joined by `meta["component"]`."""
        numbers = {label: number for number, label in enumerate(labels)}
        classes = [numbers.get(label, -1) if (label := class_of(row)) is not None else -1 for row in rows]
        units = np.array([rank(seed, unit_key(row)) for row in rows], np.uint64)
        first: dict[str, int] = {}
        components = [
            first.setdefault(row.meta.get("component", f"row:{place}"), place) for place, row in enumerate(rows)
        ]
        return cls(
            np.array([rank(seed, row.id) for row in rows], np.uint64),
            joined_units(units, np.array(components, np.int64)),
            np.array(classes, np.int32),
            tuple(labels),
        )


def rank(seed: int, key: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\0{key}".encode()).digest()[:8], "big")


def unit_key(row: Row) -> str:
    """Equal for rows of one group."""
    group = row.meta.get("group")
    return f"row:{row.id}" if group is None else f"group:{group}"


def joined_units(units: NDArray[np.uint64], components: Places) -> NDArray[np.uint64]:
    """Units joined wherever rows of two of them are of one component: each by the least of those it is made of.

    Args:
        components: for each row the place of one that stands for its component.
    """
    parents: dict[int, int] = {}

    def root(unit: int) -> int:
        while (parent := parents.get(unit, unit)) != unit:
            parents[unit] = unit = parents.get(parent, parent)
        return unit

    for place in np.flatnonzero(components != np.arange(len(components))).tolist():
        ours, theirs = root(int(units[place])), root(int(units[components[place]]))
        if ours != theirs:
            parents[max(ours, theirs)] = min(ours, theirs)
    if not parents:
        return units
    changed = np.array(sorted(parents), np.uint64)
    roots = np.array([root(unit) for unit in changed.tolist()], np.uint64)
    found = np.minimum(np.searchsorted(changed, units), len(changed) - 1)
    return np.where(changed[found] == units, roots[found], units)


class Deck:
    """Rows in the order of drawing, and who has drawn what.

    Attributes:
        by_class: for each class that some row has, the units with a row of it, in the order of drawing. A unit is
            known by its place in that order.
    """

    def __init__(self, cards: Cards) -> None:
        names = (*cards.labels, None)
        self._label = names.__getitem__  # the class -1 is the last
        self._classes = cards.classes
        units, unit_of = np.unique(cards.units, return_inverse=True)
        self._unit_of = unit_of
        self._members = np.lexsort((cards.ranks, unit_of))
        self._bounds = np.searchsorted(unit_of[self._members], np.arange(len(units) + 1))
        self._sizes = np.diff(self._bounds)
        self._is_allotted = np.zeros(len(units), np.bool_)
        self._drawn = 0
        self.by_class: dict[str | None, list[int]] = {
            self._label(number): np.unique(unit_of[cards.classes == number]).tolist()
            for number in np.unique(cards.classes).tolist()
        }

    def members(self, unit: int) -> list[int]:
        """The places of its rows, in the order of drawing."""
        places: list[int] = self._members[self._bounds[unit] : self._bounds[unit + 1]].tolist()
        return places

    @property
    def available(self) -> Counter[str | None]:
        """Rows of each class that are still to be drawn."""
        numbers, counts = np.unique(self._classes[self.pool], return_counts=True)
        return Counter(dict(zip(map(self._label, numbers.tolist()), counts.tolist(), strict=True)))

    @property
    def pool(self) -> Places:
        """The rows of units that nobody has drawn from."""
        return np.flatnonzero(~self._is_allotted[self._unit_of])

    @property
    def left_out(self) -> int:
        return len(self._unit_of) - len(self.pool) - self._drawn

    def draw(self, quotas: Mapping[str | None, int], budget: int) -> Places:
        """Rows of each class up to its quota, from units with at most `budget` rows together.

        One row of a unit comes first, more only where that does not suffice; the rarest class chooses first.
        """
        return self._take(self._choose(quotas, budget))

    def draw_balanced(self, labels: Sequence[str], per_label: int, budget: int, notes: list[str]) -> Places:
        """`per_label` rows of each label, or as many as the label with the fewest gives. Raises DataError for none."""
        chosen = self._choose(dict.fromkeys(labels, per_label), budget)
        by_label: dict[str | None, list[int]] = {label: [] for label in labels}
        for place in chosen:
            by_label[self._label(self._classes[place])].append(place)
        fewest = min(labels, key=lambda label: len(by_label[label]))
        count = len(by_label[fewest])
        if count == 0:
            raise DataError(
                f"the groups are too large to draw a row of {fewest!r} for test_balanced",
                where="data.group",
                hint=SMALLER_UNITS + "or give a file under data.test.balanced",
            )
        if count < per_label:
            notes.append(
                f"test_balanced has {count} rows a label, not {per_label}: the groups with {fewest!r} give no more"
            )
        return self._take([place for label in labels for place in by_label[label][:count]])

    def draw_whole(self, quotas: Mapping[str | None, int]) -> Places:
        """Every row of units, none of them large, that together do not exceed the quotas: nothing is left out, but some
        may be missing."""
        left = dict(quotas)
        chosen: list[int] = []
        for label in sorted(quotas, key=lambda label: (len(self.by_class.get(label, ())), str(label))):
            for unit in self.by_class.get(label, ()):
                if left[label] <= 0:
                    break
                room = sum(quotas.values()) - len(chosen)
                if self._is_allotted[unit] or self._sizes[unit] > min(room, max(1, sum(quotas.values()) // LARGE)):
                    continue
                self._is_allotted[unit] = True
                chosen += self.members(unit)
                for place in self.members(unit):
                    its = self._label(self._classes[place])
                    if its in left:
                        left[its] -= 1
        return self._take(chosen)

    def _choose(self, quotas: Mapping[str | None, int], budget: int) -> list[int]:
        left = dict(quotas)
        order = sorted(quotas, key=lambda label: (len(self.by_class.get(label, ())), str(label)))
        mine: dict[int, list[int]] = {}
        chosen: dict[int, None] = {}
        spent = 0
        for label in order:
            for unit in self._largest_last(label, budget):
                if left[label] == 0:
                    break
                size = int(self._sizes[unit])
                if not self._is_allotted[unit] and spent + size <= budget:
                    self._is_allotted[unit] = True
                    mine[unit] = self.members(unit)
                    spent += size
                    chosen[next(place for place in mine[unit] if self._label(self._classes[place]) == label)] = None
                    left[label] -= 1
        for label in order:
            further = [
                (turn, number, place)
                for number, members in enumerate(mine.values() if left[label] else ())
                for turn, place in enumerate(
                    place for place in members if self._label(self._classes[place]) == label and place not in chosen
                )
            ]
            chosen.update({place: None for _, _, place in sorted(further)[: left[label]]})
        return list(chosen)

    def _largest_last(self, label: str | None, budget: int) -> list[int]:
        """Units with a row of the label in the order of drawing, but those that would eat up the budget at the end."""
        return sorted(self.by_class.get(label, ()), key=lambda unit: bool(self._sizes[unit] * LARGE > budget))

    def _take(self, chosen: Sequence[int]) -> Places:
        self._drawn += len(chosen)
        return np.sort(np.array(chosen, np.int64))


SMALLER_UNITS = "set data.group: null, data.near_duplicates: null or higher, add rows, "


def apportion(total: int, counts: Mapping[str | None, int]) -> dict[str | None, int]:
    """`total` in the proportions of `counts`, as whole numbers (Hamilton's method of largest remainders)."""
    everything = sum(counts.values())
    if everything == 0:
        return dict.fromkeys(counts, 0)
    exact = {label: Fraction(total * count, everything) for label, count in counts.items()}
    shares = {label: int(share) for label, share in exact.items()}
    by_remainder = sorted(counts, key=lambda label: (shares[label] - exact[label], str(label)))
    for label in by_remainder[: total - sum(shares.values())]:
        shares[label] += 1
    return shares
