"""Rows in the order of drawing.

The order is that of a seeded hash of each row's id (or of its group), so what is drawn depends on which rows there are
and on the seed, and on no order of lines, dictionaries or hash tables.

Rows of one group stay on one side. A group that gives a row to a drawn set is allotted to it whole: its other rows
are left out, unless the set cannot be filled from one row a group.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from mlxdistill.errors import DataError
from mlxdistill.tasks.rows import Row


class Deck:
    """Rows in the order of drawing, and who has drawn what.

    Attributes:
        groups: each group's rows, as positions in `rows`, in the order of drawing. A row without a group is one by
            itself.
        by_class: for each class, the groups that have a row of it, in the order of drawing.
    """

    def __init__(self, rows: Sequence[Row], class_of: Callable[[Row], str | None], seed: int) -> None:
        self._rows = rows
        self._classes = [class_of(row) for row in rows]
        self._allotted: set[str] = set()
        self._drawn = 0
        members: dict[str, list[int]] = {}
        for index, row in enumerate(rows):
            group = row.meta.get("group")
            members.setdefault(f"row:{row.id}" if group is None else f"group:{group}", []).append(index)
        for indices in members.values():
            indices.sort(key=lambda index: _rank(seed, rows[index].id))
        self.groups = {group: members[group] for group in sorted(members, key=lambda group: _rank(seed, group))}
        self.by_class: dict[str | None, list[str]] = {}
        for group, indices in self.groups.items():
            for label in dict.fromkeys(self._classes[index] for index in indices):
                self.by_class.setdefault(label, []).append(group)

    @property
    def available(self) -> Counter[str | None]:
        """Rows of each class that are still to be drawn."""
        return Counter(self._classes[index] for group in self._left() for index in self.groups[group])

    @property
    def pool(self) -> tuple[Row, ...]:
        return tuple(self._rows[index] for index in sorted(i for group in self._left() for i in self.groups[group]))

    @property
    def left_out(self) -> int:
        return sum(len(self.groups[group]) for group in self._allotted) - self._drawn

    def _left(self) -> list[str]:
        return [group for group in self.groups if group not in self._allotted]

    def draw(self, quotas: Mapping[str | None, int], budget: int) -> tuple[Row, ...]:
        """Rows of each class up to its quota, from groups with at most `budget` rows together.

        One row of a group comes first, more only where that does not suffice; the rarest class chooses first.
        """
        return self._take(self._choose(quotas, budget))

    def draw_balanced(self, labels: Sequence[str], per_label: int, budget: int, notes: list[str]) -> tuple[Row, ...]:
        """`per_label` rows of each label, or as many as the label with the fewest gives. Raises DataError for none."""
        chosen = self._choose(dict.fromkeys(labels, per_label), budget)
        by_label: dict[str | None, list[int]] = {label: [] for label in labels}
        for index in chosen:
            by_label[self._classes[index]].append(index)
        fewest = min(labels, key=lambda label: len(by_label[label]))
        count = len(by_label[fewest])
        if count == 0:
            hint = "set data.group: null, add rows, or give a file under data.test.balanced"
            raise DataError(
                f"the groups are too large to draw a row of {fewest!r} for test_balanced", where="data.group", hint=hint
            )
        if count < per_label:
            notes.append(
                f"test_balanced has {count} rows a label, not {per_label}: the groups with {fewest!r} give no more"
            )
        return self._take([index for label in labels for index in by_label[label][:count]])

    def draw_whole(self, quotas: Mapping[str | None, int]) -> tuple[Row, ...]:
        """Every row of groups that together do not exceed the quotas: nothing is left out, but some may be missing."""
        left = dict(quotas)
        chosen: list[int] = []
        for label in sorted(quotas, key=lambda label: (len(self.by_class.get(label, ())), str(label))):
            for group in self.by_class.get(label, ()):
                if left[label] <= 0:
                    break
                room = sum(quotas.values()) - len(chosen)
                if group in self._allotted or len(self.groups[group]) > room:
                    continue
                self._allotted.add(group)
                chosen += self.groups[group]
                for index in self.groups[group]:
                    if self._classes[index] in left:
                        left[self._classes[index]] -= 1
        return self._take(chosen)

    def _choose(self, quotas: Mapping[str | None, int], budget: int) -> list[int]:
        left = dict(quotas)
        order = sorted(quotas, key=lambda label: (len(self.by_class.get(label, ())), str(label)))
        mine: dict[str, int] = {}
        chosen: dict[int, None] = {}
        spent = 0
        for label in order:
            for group in self.by_class.get(label, ()):
                if left[label] == 0:
                    break
                if group not in self._allotted and spent + len(self.groups[group]) <= budget:
                    self._allotted.add(group)
                    mine[group] = len(mine)
                    spent += len(self.groups[group])
                    chosen[next(index for index in self.groups[group] if self._classes[index] == label)] = None
                    left[label] -= 1
        for label in order:
            further = [
                (turn, place, index)
                for group, place in (mine.items() if left[label] else ())
                for turn, index in enumerate(
                    i for i in self.groups[group] if self._classes[i] == label and i not in chosen
                )
            ]
            chosen.update({index: None for _, _, index in sorted(further)[: left[label]]})
        return list(chosen)

    def _take(self, chosen: Sequence[int]) -> tuple[Row, ...]:
        self._drawn += len(chosen)
        return tuple(self._rows[index] for index in sorted(chosen))


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


def _rank(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{key}".encode()).digest()
