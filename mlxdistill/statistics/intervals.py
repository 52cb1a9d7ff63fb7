"""Confidence intervals, all at 95 %.

Proportions of independent rows get Wilson's interval: it stays honest where nothing went wrong (20 of 20), exactly
where a bootstrap returns a single point. Everything else is bootstrapped. Two corrections keep the bootstrap from
claiming more than the rows can say:

- a bootstrap of clusters takes wider percentiles when there are few of them (Hesterberg 2015, "What teachers should
  know about the bootstrap", expanded percentiles), and is never narrower than the interval that ignores the clusters;
- a bootstrap of counts draws from smoothed counts (see `evaluation/scores.py`), so that errors nobody has seen yet
  can occur.

Sources: Wilson 1927; Efron 1979; Brown, Cai and DasGupta 2001 for why not the textbook interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from mlxdistill.statistics.resampling import Floats, Integers, cluster_sums, generator, row_means, sums_by_cluster

CONFIDENCE = 0.95
Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)

Ends = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and its doubt.

    Attributes:
        value: the estimate.
        ci: lower and upper end, or None where the rows cannot say (then `reason` says why).
        method: how the ends were found.
        resamples, seed: of a bootstrap.
    """

    value: float
    ci: Ends | None
    method: str
    resamples: int | None = None
    seed: int | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """`{"value", "ci", "method"}`, and `resamples`, `seed`, `reason` where there are any."""
        shown: dict[str, Any] = {"value": self.value, "ci": list(self.ci) if self.ci else None, "method": self.method}
        for name in ("resamples", "seed", "reason"):
            if getattr(self, name) is not None:
                shown[name] = getattr(self, name)
        return shown

    def widened(self, ends: Ends | None) -> Interval:
        """The same, with ends that also take in `ends`; without ends of its own it stays without."""
        if self.ci is None or ends is None:
            return self
        return replace(self, ci=(min(self.ci[0], ends[0]), max(self.ci[1], ends[1])))


def wilson_ends(successes: float, n: float) -> Ends:
    """Wilson's score interval of a proportion. `n` > 0."""
    share = successes / n
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def wilson(successes: int, n: int) -> Interval:
    """The proportion `successes` / `n` with Wilson's score interval. `n` > 0."""
    return Interval(successes / n, wilson_ends(successes, n), "wilson")


def proportion(right: npt.NDArray[Any], clusters: Integers | None, *, resamples: int, seed: int) -> Interval:
    """The share of rows (n,) that are right, with Wilson's interval, or a bootstrap of whole clusters. n > 0.

    Args:
        clusters: (n,) the cluster of each row, 0..G-1; None where every row stands alone.
    """
    rows = wilson(int(right.sum()), len(right))
    if clusters is None:
        return rows
    sums = sums_by_cluster(np.column_stack([right, np.ones(len(right))]), clusters)
    return cluster_ratio(sums, rows.value, resamples=resamples, seed=seed).widened(rows.ci)


def percentile_levels(clusters: int | None = None) -> Ends:
    """Which percentiles of the resamples are the ends; further out where there are few clusters."""
    tail = (1 - CONFIDENCE) / 2
    if clusters is not None:
        tail = NormalDist().cdf(-math.sqrt(clusters / (clusters - 1)) * t_quantile(clusters - 1))
    return tail, 1 - tail


def t_quantile(degrees: int) -> float:
    """Student's t at the upper end of the confidence, for `degrees` > 0 of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 + CONFIDENCE / 2))


def percentile_ends(draws: Floats, levels: Ends) -> Ends | None:
    """The percentiles `levels` of the resampled values (R,); None where no resample has a value."""
    finite = draws[np.isfinite(draws)]
    if not len(finite):
        return None
    low, high = np.quantile(finite, levels)
    return float(low), float(high)


def mean_interval(values: Floats, *, resamples: int, seed: int, clusters: Floats | None = None) -> Interval:
    """The mean of the rows' values with a percentile bootstrap, of rows or of whole clusters.

    Args:
        values: (n,), n > 0.
        clusters: (G, 2), the sum of the values and the number of rows of each cluster.
    """
    value = float(values.mean())
    rows = percentile_ends(row_means(values, resamples, generator(seed)), percentile_levels())
    if clusters is None:
        if values.min() == values.max():
            return Interval(value, None, "bootstrap", resamples, seed, "the rows do not vary")
        return Interval(value, rows, "bootstrap", resamples, seed).widened((value, value))
    return cluster_ratio(clusters, value, resamples=resamples, seed=seed).widened(rows)


def cluster_ratio(sums: Floats, value: float, *, resamples: int, seed: int) -> Interval:
    """The ratio of two sums over rows, with a bootstrap of whole clusters.

    Args:
        sums: (G, 2), numerator and denominator of each cluster.
        value: the ratio over all rows.
    """
    if len(sums) < 2:
        return Interval(value, None, "cluster bootstrap", resamples, seed, ONE_GROUP)
    drawn = cluster_sums(sums, resamples, generator(seed))
    ratio = np.full(resamples, np.nan)
    np.divide(drawn[:, 0], drawn[:, 1], out=ratio, where=drawn[:, 1] > 0)
    ends = percentile_ends(ratio, percentile_levels(len(sums)))
    return Interval(value, ends, "cluster bootstrap", resamples, seed).widened((value, value))


ONE_GROUP = "all rows are of one group"
