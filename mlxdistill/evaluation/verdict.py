"""May the student replace the teacher?

A question of non-inferiority: not "is the student as good", which no number of rows can prove, but "is it at most
`margin` worse". The interval of the paired difference answers it, or says how many rows would.

Only rows that both answered count. A teacher from a log may have answered part of test_balanced and one class more
than another; there every class is made to count the same, as the set was meant to, by taking the balanced accuracy.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mlxdistill.evaluation.comparisons import difference
from mlxdistill.evaluation.samples import Pair
from mlxdistill.evaluation.scores import Resampling
from mlxdistill.statistics.intervals import Ends, Interval
from mlxdistill.statistics.paired import tango_ends
from mlxdistill.statistics.shares import PairedShares, paired_shares

REPLACEMENT_SET = "test_balanced"
ACCURACY, BALANCED = "accuracy", "balanced_accuracy"
_MOST_ROWS = 10**9
_MOST_NAMED = 5


def judged_metric(set_name: str, pair: Pair) -> str:
    """What student and teacher are judged by: balanced accuracy on a test_balanced whose shared rows are not."""
    occurring = {count for count in pair.class_counts.values() if count}
    return BALANCED if set_name == REPLACEMENT_SET and len(occurring) > 1 else ACCURACY


def retention(set_name: str, pair: Pair, rows: int, resampling: Resampling) -> dict[str, Any]:
    """The student's score as a share of the teacher's, on the rows both answered.

    `above_chance` is the same of what lies above chance, which is what a constant answer scores on these rows: the
    share of their most frequent class, or with balanced accuracy 1 / (number of classes among them).

    Args:
        pair: student and teacher.
        rows: how many the set has.
    """
    metric = judged_metric(set_name, pair)
    entry: dict[str, Any] = {"metric": metric, **pair.size(rows)}
    nulls = dict.fromkeys(("value", "ci", "method", "above_chance", "above_chance_ci"))
    if not entry["n"]:
        return entry | nulls | {"reason": "student and teacher have no scored row in common"}
    shares = _shares(pair, metric, resampling)
    teacher = shares.seen[1]
    if teacher == 0:
        return entry | nulls | {"reason": "the teacher has no row right"}
    counts = [count for count in pair.class_counts.values() if count]
    chance = 1 / len(counts) if metric == BALANCED else max(counts) / sum(counts)
    entry |= shares.ratio().to_json() | {"above_chance": None, "above_chance_ci": None, "chance": chance}
    if teacher <= chance:
        return entry | {"reason": "the teacher is not above chance"}
    above = shares.ratio_above(chance).to_json()
    entry |= {"above_chance": above["value"], "above_chance_ci": above["ci"]}
    return entry | (
        {"reason": f"the teacher is {above['reason']}"} if "reason" not in entry and "reason" in above else {}
    )


def replacement(pair: Pair | None, rows: int, margin: float, resampling: Resampling) -> dict[str, Any]:
    """The verdict on student and teacher, `yes`, `no` or `undecided`, on test_balanced.

    It is null where a class of the task has no row that both answered: nothing can be said of it.

    Args:
        pair: student and teacher on that set; None where there is no such set or one of them is missing.
        rows: how many the set has.
        margin: how much worse than the teacher the student may be, as a difference in the score.
    """
    nulls = {"verdict": "undecided", "difference": None, "ci": None, "method": None, "rows_needed": None}
    if pair is None or not len(pair.reference):
        reason = f"student and teacher have no scored row of {REPLACEMENT_SET} in common"
        return {"set": REPLACEMENT_SET, "metric": ACCURACY, "n": 0, "margin": margin, **nulls, "reason": reason}
    metric = judged_metric(REPLACEMENT_SET, pair)
    entry = {"set": REPLACEMENT_SET, "metric": metric, **pair.size(rows), "margin": margin}
    absent = [label for label, count in pair.class_counts.items() if not count]
    if absent:
        reason = f"none of the rows of {REPLACEMENT_SET} that both answered is of {_named(absent)}"
        return entry | nulls | {"verdict": None, "reason": reason}
    interval = difference(pair, resampling) if metric == ACCURACY else _shares(pair, metric, resampling).difference()
    shown = interval.to_json()
    verdict = _decided(interval.ci, margin)
    return entry | {
        "verdict": verdict,
        "difference": shown.pop("value"),
        **shown,
        "rows_needed": rows_needed(pair, metric, interval, margin) if verdict == "undecided" else None,
    }


def _shares(pair: Pair, metric: str, resampling: Resampling) -> PairedShares:
    """Both accuracies, resampled together; for the balanced ones the classes are numbered without gaps."""
    classes = np.unique(pair.reference, return_inverse=True)[1] if metric == BALANCED else None
    return paired_shares(pair.cells, classes, pair.clusters, resamples=resampling.resamples, seed=resampling.seed)


def _named(labels: list[str]) -> str:
    more = f" and {len(labels) - _MOST_NAMED} more labels" if len(labels) > _MOST_NAMED else ""
    return ", ".join(repr(label) for label in labels[:_MOST_NAMED]) + more


def _decided(ci: Ends | None, margin: float) -> str:
    if ci is None:
        return "undecided"
    return "yes" if ci[0] > -margin else "no" if ci[1] < -margin else "undecided"


def rows_needed(pair: Pair, metric: str, interval: Interval, margin: float) -> int | None:
    """How many rows would decide, should they differ as these do; None where the difference sits at the margin.

    Independent rows that count the same are planned by the interval they would get; of bootstrapped intervals it is
    known that they narrow with the root of the rows.
    """
    distance = interval.value + margin
    if abs(distance) < 1e-9 or interval.ci is None:
        return None
    n = len(pair.reference)
    if pair.clusters is not None or metric == BALANCED:
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
