"""May the student replace the teacher?

A question of non-inferiority: not "is the student as good", which no number of rows can prove, but "is it at most
`margin` worse". The interval of the paired difference answers it, or says how many rows would.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mlxdistill.evaluation.comparisons import difference
from mlxdistill.evaluation.samples import Pair
from mlxdistill.evaluation.scores import Resampling
from mlxdistill.statistics.intervals import Ends, Interval
from mlxdistill.statistics.paired import paired_cluster_ratio, paired_ratio, tango_ends
from mlxdistill.statistics.resampling import sums_by_cluster

REPLACEMENT_SET = "test_balanced"
_MOST_ROWS = 10**9


def retention(pair: Pair, class_counts: Mapping[str, int], resampling: Resampling) -> dict[str, Any]:
    """The student's accuracy as a share of the teacher's, on the rows both answered.

    `above_chance` is the same of what lies above chance, which is the share of the set's most frequent class: what a
    constant answer scores, and 1 / (number of classes) on a balanced set.

    Args:
        pair: student and teacher.
        class_counts: rows of the set by gold label.
    """
    entry: dict[str, Any] = {"metric": "accuracy", "n": len(pair.a_right)}
    nulls = {"value": None, "ci": None, "method": None, "above_chance": None}
    if not entry["n"]:
        return entry | nulls | {"reason": "student and teacher have no scored row in common"}
    student, teacher = float(pair.a_right.mean()), float(pair.b_right.mean())
    if teacher == 0:
        return entry | nulls | {"reason": "the teacher has no row right"}
    chance = max(class_counts.values()) / sum(class_counts.values())
    entry |= _ratio(pair, resampling).to_json() | {"above_chance": None, "chance": chance}
    if teacher <= chance:
        return entry | {"reason": "the teacher is not above chance"}
    return entry | {"above_chance": (student - chance) / (teacher - chance)}


def _ratio(pair: Pair, resampling: Resampling) -> Interval:
    numbers = {"resamples": resampling.resamples, "seed": resampling.seed}
    if pair.clusters is not None:
        return paired_cluster_ratio(sums_by_cluster(pair.cells, pair.clusters), **numbers)
    both, a_only, b_only, neither = (int(total) for total in pair.cells.sum(axis=0))
    return paired_ratio(both, a_only, b_only, neither, **numbers)


def replacement(pair: Pair | None, margin: float, resampling: Resampling) -> dict[str, Any]:
    """The verdict on student and teacher, `yes`, `no` or `undecided`, on test_balanced.

    Args:
        pair: student and teacher on that set; None where there is no such set or one of them is missing.
        margin: how much worse than the teacher the student may be, as a difference in accuracy.
    """
    n = 0 if pair is None else len(pair.a_right)
    entry = {"set": REPLACEMENT_SET, "metric": "accuracy", "n": n, "margin": margin}
    if pair is None or not n:
        nulls = {"verdict": "undecided", "difference": None, "ci": None, "method": None, "rows_needed": None}
        return entry | nulls | {"reason": f"student and teacher have no scored row of {REPLACEMENT_SET} in common"}
    interval = difference(pair, resampling)
    shown = interval.to_json()
    verdict = _decided(interval.ci, margin)
    return entry | {
        "verdict": verdict,
        "difference": shown.pop("value"),
        **shown,
        "rows_needed": rows_needed(pair, interval, margin) if verdict == "undecided" else None,
    }


def _decided(ci: Ends | None, margin: float) -> str:
    if ci is None:
        return "undecided"
    return "yes" if ci[0] > -margin else "no" if ci[1] < -margin else "undecided"


def rows_needed(pair: Pair, interval: Interval, margin: float) -> int | None:
    """How many rows would decide, should they differ as these do; None where the difference sits at the margin."""
    distance = interval.value + margin
    if abs(distance) < 1e-9 or interval.ci is None:
        return None
    n = len(pair.a_right)
    if pair.clusters is not None:
        side = interval.value - interval.ci[0] if distance > 0 else interval.ci[1] - interval.value
        return max(n + 1, math.ceil(n * (side / distance) ** 2))
    _, a_only, b_only, _ = (float(total) / n for total in pair.cells.sum(axis=0))

    def decides(rows: int) -> bool:
        return _decided(tango_ends(a_only * rows, b_only * rows, rows), margin) != "undecided"

    low, high = n, 2 * n
    while not decides(high):
        low, high = high, 2 * high
        if high > _MOST_ROWS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high
