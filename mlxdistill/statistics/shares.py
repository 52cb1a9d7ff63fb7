"""Two systems' shares of right answers on the same rows, resampled together.

A share is the accuracy, or, with the rows told apart by class, the balanced accuracy: the mean over the classes of the
share of their rows that are right. Accuracy is the case of a single class. Difference, ratio and ratio above chance
come from the same resamples.

- Independent rows are resampled within each class, whose number of rows stays. In every class, the rows that only one
  system has right are smoothed by one each (Bonett and Price 2012), so that errors nobody has seen can occur; the
  percentiles are then moved from the smoothed value to the value.
- Rows in clusters are resampled by whole clusters, and no interval is narrower than the one that ignores the clusters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mlxdistill.statistics.intervals import ONE_GROUP, Interval, percentile_ends, percentile_levels
from mlxdistill.statistics.resampling import (
    Floats,
    Integers,
    cluster_sums,
    generator,
    multinomial_counts,
    sums_by_cluster,
)

NEAR_CHANCE = "too near chance for an interval"

Statistic = Callable[[Floats, Floats], Floats]


@dataclass(frozen=True, slots=True)
class PairedShares:
    """The shares of the first and the second system.

    Attributes:
        seen: (2,) those of the rows.
        centre: (2,) those of the smoothed counts.
        draws: (2, R) those of resamples of the smoothed counts.
        group_draws: (2, R) those of resamples of whole clusters; None without clusters, and with a single one.
        clusters: how many there are; None where every row stands alone.
        method: how independent rows were resampled.
        resamples, seed: of every interval.
    """

    seen: Floats
    centre: Floats
    draws: Floats
    group_draws: Floats | None
    clusters: int | None
    method: str
    resamples: int
    seed: int

    def difference(self) -> Interval:
        """The first share less the second."""
        return self._interval(lambda a, b: a - b, (-1.0, 1.0))

    def ratio(self) -> Interval:
        """The first share by the second, which is above 0."""
        return self._interval(_quotient, (0.0, np.inf))

    def ratio_above(self, chance: float) -> Interval:
        """The same of what lies above `chance`, where the second share lies.

        There is no interval where the resamples of the second share reach down to chance: any ratio could be.
        """

        def above(a: Floats, b: Floats) -> Floats:
            found = _quotient(a - chance, b - chance)
            # So few that the lower end is not theirs; they count as the largest.
            return np.where(np.isnan(found), np.nanmax(found, initial=-np.inf), found)

        tail = percentile_levels(self.clusters if self.group_draws is not None else None)[0]
        drawn = [self.draws] if self.group_draws is None else [self.draws, self.group_draws]
        if self.centre[1] <= chance or any((shares[1] <= chance).mean() > tail for shares in drawn):
            value = float(_quotient(*(self.seen - chance)))
            return Interval(value, None, self.method, self.resamples, self.seed, NEAR_CHANCE)
        return self._interval(above, (-np.inf, np.inf))

    def _interval(self, statistic: Statistic, bounds: tuple[float, float]) -> Interval:
        value = float(statistic(*self.seen))
        moved = statistic(*self.draws) - statistic(*self.centre) + value
        ends = percentile_ends(np.clip(moved, *bounds), percentile_levels())
        numbers = (self.resamples, self.seed)
        rows = Interval(value, ends, self.method, *numbers).widened((value, value))
        if self.clusters is None:
            return rows
        if self.group_draws is None:
            return Interval(value, None, "cluster bootstrap", *numbers, ONE_GROUP)
        ends = percentile_ends(statistic(*self.group_draws), percentile_levels(self.clusters))
        return Interval(value, ends, "cluster bootstrap", *numbers).widened((value, value)).widened(rows.ci)


def paired_shares(
    cells: Floats, classes: Integers | None, clusters: Integers | None, *, resamples: int, seed: int
) -> PairedShares:
    """Resamples two systems' accuracies, or with `classes` their balanced accuracies.

    Args:
        cells: (n, 4), n > 0: one where both, only the first, only the second, neither is right.
        classes: (n,) the class of each row, numbered without gaps from 0.
        clusters: (n,) the cluster of each row, 0..G-1; None where every row stands alone.
    """
    places = np.zeros(len(cells), np.int64) if classes is None else classes
    counts = sums_by_cluster(cells, places)
    rng = generator(seed)
    smoothed = counts + np.array([0.0, 1.0, 1.0, 0.0])
    drawn = np.stack(
        [
            multinomial_counts(weights, int(total), resamples, rng).astype(np.float64)
            for weights, total in zip(smoothed, counts.sum(axis=1), strict=True)
        ],
        axis=1,
    )
    groups = None if clusters is None else int(clusters.max()) + 1
    return PairedShares(
        seen=_shares(counts),
        centre=_shares(smoothed),
        draws=_shares(drawn),
        group_draws=None
        if clusters is None or groups == 1
        else _shares(_group_counts(cells, places, clusters, resamples, seed)),
        clusters=groups,
        method="paired bootstrap" if classes is None else "stratified paired bootstrap",
        resamples=resamples,
        seed=seed,
    )


def _group_counts(cells: Floats, places: Integers, clusters: Integers, resamples: int, seed: int) -> Floats:
    """(resamples, C, 4) counts of resamples of whole clusters."""
    classes = int(places.max()) + 1
    sums = sums_by_cluster(cells, clusters * classes + places)
    by_cluster = np.zeros(((int(clusters.max()) + 1) * classes, 4))
    by_cluster[: len(sums)] = sums
    drawn = cluster_sums(by_cluster.reshape(-1, classes * 4), resamples, generator(seed))
    return drawn.reshape(resamples, classes, 4)


def _shares(counts: Floats) -> Floats:
    """The mean over the classes that have rows, from counts (..., C, 4) to (2, ...)."""
    both, a_only, b_only, _ = np.moveaxis(counts, -1, 0)
    totals = counts.sum(axis=-1)
    there = (totals > 0).sum(axis=-1)
    shares = [
        np.divide(right, totals, out=np.zeros_like(totals), where=totals > 0)
        for right in (both + a_only, both + b_only)
    ]
    return np.stack([share.sum(axis=-1) / there for share in shares])


def _quotient(a: Floats, b: Floats) -> Floats:
    """a / b, NaN where b is not above 0."""
    above, below = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64))
    quotient: Floats = np.full(above.shape, np.nan)
    np.divide(above, below, out=quotient, where=below > 0)
    return quotient
