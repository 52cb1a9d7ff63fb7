"""The student against every other system, on the rows both answered.

"Better" and "worse" are said only where the test rejects at 5 % and the interval leaves out 0; otherwise there is no
significant difference. The tests are not corrected for their number: each comparison stands for itself, next to its p
value.
"""

from __future__ import annotations

from typing import Any

from mlxdistill.evaluation.samples import Pair
from mlxdistill.evaluation.scores import Resampling
from mlxdistill.statistics.intervals import CONFIDENCE, Interval
from mlxdistill.statistics.paired import cluster_difference, mcnemar, paired_difference, sign_flip
from mlxdistill.statistics.resampling import sums_by_cluster

NO_DIFFERENCE = "no significant difference"


def compare(
    a: str, b: str, set_name: str, metric: str, pair: Pair, rows: int, resampling: Resampling
) -> dict[str, Any]:
    """The entry of metrics.json for systems `a` and `b` on one set.

    Args:
        metric: `accuracy`, or `agreement` (with the teacher) where there is no gold.
        pair: the rows both answered, possibly none.
        rows: how many the set has; where the pair has fewer, the entry says of which classes.
    """
    entry: dict[str, Any] = {"a": a, "b": b, "set": set_name, "metric": metric, **pair.size(rows)}
    if not entry["n"]:
        nulls = dict.fromkeys(("difference", "ci", "method", "test", "p_value", "verdict"))
        return entry | nulls | {"reason": f"{a} and {b} have no scored row in common"}
    interval = difference(pair, resampling)
    test, p_value = _test(pair, resampling)
    shown = interval.to_json()
    return entry | {
        "difference": shown.pop("value"),
        **shown,
        "test": test,
        "p_value": p_value,
        "a_only_right": int(pair.cells[:, 1].sum()),
        "b_only_right": int(pair.cells[:, 2].sum()),
        "verdict": _verdict(a, interval, p_value, metric),
    }


def difference(pair: Pair, resampling: Resampling) -> Interval:
    """The difference in the share of rows right, a less b. The pair has rows."""
    _, a_only, b_only, _ = (int(total) for total in pair.cells.sum(axis=0))
    if pair.clusters is None:
        return paired_difference(a_only, b_only, len(pair.a_right))
    cells = sums_by_cluster(pair.cells, pair.clusters)
    cells[:, 3] = cells.sum(axis=1)
    return cluster_difference(cells[:, 1:], resamples=resampling.resamples, seed=resampling.seed)


def _test(pair: Pair, resampling: Resampling) -> tuple[str, float]:
    if pair.clusters is None:
        _, a_only, b_only, _ = (int(total) for total in pair.cells.sum(axis=0))
        return "mcnemar", mcnemar(a_only, b_only)
    cells = sums_by_cluster(pair.cells, pair.clusters)
    p_value = sign_flip(cells[:, 1] - cells[:, 2], resamples=resampling.resamples, seed=resampling.seed)
    return "sign flip by group", p_value


def _verdict(a: str, interval: Interval, p_value: float, metric: str) -> str:
    if interval.ci is None or p_value >= 1 - CONFIDENCE or interval.ci[0] <= 0 <= interval.ci[1]:
        return NO_DIFFERENCE
    if metric == "agreement":
        return f"{a} agrees {'more' if interval.value > 0 else 'less'} with the teacher"
    return f"{a} is {'better' if interval.value > 0 else 'worse'}"
