"""How an error falls with the number of rows learned from: floor + scale * rows ** -exponent.

The form is that of most learning curves (Hestness et al. 2017, Deep learning scaling is predictable, empirically;
Viering and Loog 2023, The shape of learning curves). It never rises, and has three numbers for a handful of points, so
it is not to be trusted far beyond them: a doubling is what it is asked about here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlxdistill.statistics.resampling import Floats

EXPONENTS = np.linspace(0.05, 2.0, 40)


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """Fits of R curves at once.

    Attributes:
        floor, scale, exponent: (R,), of each; floor and scale are not negative.
        unit: the rows that `scale` is the fall at.
    """

    floor: Floats
    scale: Floats
    exponent: Floats
    unit: float

    def at(self, rows: float) -> Floats:
        """(R,): the errors after so many rows."""
        error: Floats = self.floor + self.scale * (rows / self.unit) ** -self.exponent
        return error


def fit_power_law(rows: Floats, errors: Floats, weights: Floats) -> PowerLaw:
    """Least squares, the exponent from a grid, floor and scale in closed form.

    Args:
        rows: (K,) at least two different numbers of rows, ascending.
        errors: (R, K) the error after each of them, for R curves.
        weights: (K,) of the squares: one over the variance of each point.
    """
    unit = float(rows[0])
    best = np.full(len(errors), np.inf)
    floor, scale, exponent = (np.zeros(len(errors)) for _ in range(3))
    total = weights.sum()
    for power in EXPONENTS:
        falls = (rows / unit) ** -power
        mean_fall, mean_error = (weights * falls).sum() / total, errors @ weights / total
        spread = (weights * (falls - mean_fall) ** 2).sum()
        slopes = (errors - mean_error[:, None]) @ (weights * (falls - mean_fall)) / spread
        slopes = np.maximum(slopes, 0.0)
        ends = mean_error - slopes * mean_fall
        below = ends < 0
        slopes = np.where(below, errors @ (weights * falls) / (weights * falls**2).sum(), slopes)
        ends = np.where(below, 0.0, ends)
        rest = (weights * (errors - ends[:, None] - slopes[:, None] * falls) ** 2).sum(axis=1)
        better = rest < best
        best = np.where(better, rest, best)
        floor, scale = np.where(better, ends, floor), np.where(better, slopes, scale)
        exponent = np.where(better, power, exponent)
    return PowerLaw(floor, scale, exponent, unit)
