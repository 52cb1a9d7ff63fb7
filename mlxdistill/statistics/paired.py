"""Two systems on the same rows.

What tells them apart is only the rows where one is right and the other wrong. For independent rows:

- the test is McNemar's with the mid-p value, at every number of such rows (Fagerland, Lydersen and Laake 2013: it
  keeps its level like the exact test, without the exact test's loss of power);
- the difference gets Tango's score interval (Tango 1998), which was made for non-inferiority and does not shrink to a
  point when two systems agree on every row; a bootstrap would, and would call five equal answers a proof.

For rows in clusters the difference gets a bootstrap of clusters, and the test flips the sign of whole clusters (a
permutation test: exact under the null however few clusters there are).
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from mlxdistill.statistics.intervals import Ends, Interval, Z, cluster_ratio
from mlxdistill.statistics.resampling import Floats, generator

# Below this many clusters that differ, all sign flips are counted instead of drawn.
_MOST_COUNTED = 12


def mcnemar(a_only: int, b_only: int) -> float:
    """The two-sided mid-p value of McNemar's test.

    Args:
        a_only, b_only: rows that only the first, only the second system has right.
    """
    from scipy.special import bdtr

    fewer, pairs = min(a_only, b_only), a_only + b_only
    if a_only == b_only:
        return 1.0
    at_most = float(bdtr(fewer, pairs, 0.5))
    below = float(bdtr(fewer - 1, pairs, 0.5)) if fewer else 0.0
    return min(1.0, at_most + below)


def mcnemar_exact(a_only: int, b_only: int) -> float:
    """The two-sided p value of McNemar's exact test, which never exceeds its level, so that corrections for many
    comparisons keep their promise too; the mid-p value keeps its own only on average.

    Args:
        a_only, b_only: rows that only the first, only the second system has right.
    """
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(a_only, b_only), a_only + b_only, 0.5)))


def tango_ends(a_only: float, b_only: float, n: float) -> Ends:
    """Tango's score interval of the paired difference (a_only - b_only) / n. Counts may be fractions (for planning)."""
    difference = (a_only - b_only) / n
    return (
        _crossing(a_only, b_only, n, Z, -1.0, difference),
        _crossing(a_only, b_only, n, -Z, difference, 1.0),
    )


def _crossing(a_only: float, b_only: float, n: float, level: float, low: float, high: float) -> float:
    """Where the score statistic, which falls as delta rises, passes `level` between `low` and `high`."""
    for _ in range(60):
        middle = (low + high) / 2
        if _score(a_only, b_only, n, middle) > level:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _score(a_only: float, b_only: float, n: float, delta: float) -> float:
    """Tango's statistic for the hypothesis that the difference is `delta`; standard normal under it."""
    linear = -a_only - b_only + (2 * n - a_only + b_only) * delta
    constant = -b_only * delta * (1 - delta)
    root = math.sqrt(max(0.0, linear**2 - 8 * n * constant))
    b_share = (root - linear) / (4 * n)
    variance = n * (2 * b_share + delta * (1 - delta))
    distance = a_only - b_only - n * delta
    if variance <= 1e-12 * n:
        return math.copysign(math.inf, distance) if abs(distance) > 1e-9 * n else 0.0
    return distance / math.sqrt(variance)


def paired_difference(a_only: int, b_only: int, n: int) -> Interval:
    """The difference in accuracy of two systems on the same `n` > 0 rows, first minus second."""
    return Interval((a_only - b_only) / n, tango_ends(a_only, b_only, n), "tango")


def cluster_difference(sums: Floats, *, resamples: int, seed: int) -> Interval:
    """The same for rows in clusters.

    Args:
        sums: (G, 3): of each cluster the rows only the first, only the second has right, and all rows.
    """
    a_only, b_only, n = (float(total) for total in sums.sum(axis=0))
    differences = np.column_stack([sums[:, 0] - sums[:, 1], sums[:, 2]])
    interval = cluster_ratio(differences, (a_only - b_only) / n, resamples=resamples, seed=seed)
    return interval.widened(tango_ends(a_only, b_only, n))


def sign_flip(differences: Floats, *, resamples: int, seed: int) -> float:
    """The two-sided p value that the clusters' sums of differences (G,) are symmetric around 0."""
    moving = differences[differences != 0]
    if not len(moving):
        return 1.0
    seen = abs(moving.sum()) - 1e-9
    if len(moving) <= _MOST_COUNTED:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(moving))))
        return float((np.abs(signs @ moving) >= seen).mean())
    rng = generator(seed)
    # A sum of random signs times the values is twice the sum over a random half, less the whole.
    drawn = rng.integers(0, 2, size=(resamples, len(moving)), dtype=np.int8)
    flipped = 2 * (drawn.astype(np.float64) @ moving) - moving.sum()
    return float((1 + (np.abs(flipped) >= seen).sum()) / (1 + resamples))
