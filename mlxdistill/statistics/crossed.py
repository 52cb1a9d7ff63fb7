"""Differences with two sources of chance: which rows test, and which seed a model was trained with.

Every seed is tested on the same rows, so the two cross. The variance of the mean is at most the sum of two: that over
rows (or groups of rows) of the means over seeds, and that over seeds of the means over rows; each contains what depends
on row and seed together (Searle, Casella and McCulloch, Variance Components, chapter 4). Each source gets the quantile
of Student's t that its own number deserves, as Cochran and Cox (1950) do for two variances: degrees of freedom for the
sum (Satterthwaite 1946) raise too many false alarms where there are two or three seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from mlxdistill.statistics.intervals import CONFIDENCE, Interval
from mlxdistill.statistics.resampling import Floats, Integers, sums_by_cluster

METHOD = "rows and seeds"


def crossed_difference(differences: Floats, clusters: Integers | None) -> tuple[Interval, float]:
    """The mean difference with its interval, and the two-sided p value that it is 0.

    Args:
        differences: (S, n): for each seed and row, right with the first setting less right with the second. S > 1.
        clusters: (n,) the group of each row, 0..G-1; None where every row stands alone.
    """
    seeds, rows = differences.shape
    mean = float(differences.mean())
    of_rows = differences.mean(axis=0) - mean
    sums = of_rows if clusters is None else sums_by_cluster(of_rows[:, None], clusters)[:, 0]
    groups = len(sums)
    by_rows = float((sums**2).sum()) / rows**2 * groups / max(1, groups - 1)
    by_seeds = float(differences.mean(axis=1).var(ddof=1)) / seeds
    if by_rows + by_seeds == 0 or groups < 2:
        reason = "the rows and seeds do not vary" if groups > 1 else "all rows are of one group"
        return Interval(mean, None, METHOD, reason=reason), 1.0

    def half(level: float) -> float:
        return math.hypot(
            _quantile(groups - 1, level) * math.sqrt(by_rows), _quantile(seeds - 1, level) * math.sqrt(by_seeds)
        )

    width = half(1 - CONFIDENCE)
    return Interval(mean, (max(-1.0, mean - width), min(1.0, mean + width)), METHOD), _p_value(abs(mean), half)


def _quantile(degrees: int, level: float) -> float:
    """The size that Student's t exceeds with a probability of `level`."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 1 - level / 2))


def _p_value(size: float, half: Callable[[float], float]) -> float:
    """The level whose interval just reaches 0."""
    low, high = 1e-12, 1.0
    if half(low) <= size:
        return low
    for _ in range(60):
        middle = math.sqrt(low * high)
        if half(middle) > size:
            low = middle
        else:
            high = middle
    return high
