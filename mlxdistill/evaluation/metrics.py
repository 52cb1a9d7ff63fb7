"""What the scores are: plain functions of counts and class probabilities, without any doubt attached.

Scores of labels take `Margins` with any leading dimensions, so that a bootstrap scores all its resamples in one call.
They agree with scikit-learn's (which tests check); where scikit-learn returns 0 for 0/0 they return NaN, which
becomes null.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlxdistill.statistics.calibration import calibration_error
from mlxdistill.statistics.resampling import Floats, Integers


@dataclass(frozen=True, slots=True)
class Margins:
    """All of a confusion matrix that the scores need, each (..., K): rows of a class that were predicted right, rows of
    the class, rows predicted to be of it; and `rows` (...), all of them."""

    right: Floats
    actual: Floats
    predicted: Floats

    @property
    def rows(self) -> Floats:
        total: Floats = self.actual.sum(axis=-1)
        return total


def confusion_matrix(reference: Integers, predicted: Integers, labels: int) -> Integers:
    """(K, K + 1) counts of rows by right label and prediction; the last column is for answers that name no label."""
    cells = np.bincount(reference * (labels + 1) + predicted, minlength=labels * (labels + 1))
    return cells.reshape(labels, labels + 1).astype(np.int64)


def margins(confusion: Floats | Integers) -> Margins:
    """Of a confusion matrix (..., K, K + 1)."""
    counts = np.asarray(confusion, dtype=np.float64)
    return Margins(
        np.diagonal(counts[..., :-1], axis1=-2, axis2=-1), counts.sum(axis=-1), counts[..., :-1].sum(axis=-2)
    )


def accuracy(m: Margins) -> Floats:
    return ratio(m.right.sum(axis=-1), m.rows)


def recall(m: Margins) -> Floats:
    """(..., K); NaN for a class without rows."""
    return ratio(m.right, m.actual)


def precision(m: Margins) -> Floats:
    """(..., K); NaN for a class never predicted."""
    return ratio(m.right, m.predicted)


def f1(m: Margins) -> Floats:
    """(..., K); NaN for a class that neither occurs nor is predicted."""
    return ratio(2 * m.right, m.actual + m.predicted)


def balanced_accuracy(m: Margins) -> Floats:
    """The mean recall of the classes that occur."""
    return mean_of_known(recall(m))


def macro_f1(m: Margins) -> Floats:
    """The mean F1 of the classes that occur or are predicted."""
    return mean_of_known(f1(m))


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Quotients, NaN for 0/0."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    quotient = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient


def mean_of_known(values: Floats) -> Floats:
    """The mean over the last axis without NaN; NaN where nothing is left."""
    known = np.isfinite(values)
    return ratio(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1).astype(np.float64))


def brier_rows(reference: Integers, probabilities: Floats) -> Floats:
    """Brier's (1950) score of each row: the squared distance to the right label's corner, 0 to 2. (n, K) to (n,)."""
    distance = probabilities.copy()
    distance[np.arange(len(reference)), reference] -= 1
    squared: Floats = (distance**2).sum(axis=1)
    return squared


def expected_calibration_error(reference: Integers, probabilities: Floats) -> float:
    """How far the top label's probability is from how often it is right (`statistics/calibration.py`).

    `probabilities` (n, K), n > 0.
    """
    top = probabilities.argmax(axis=1)
    return calibration_error(probabilities[np.arange(len(top)), top], (top == reference).astype(np.float64))


def auroc_placements(reference: Integers, probabilities: Floats) -> tuple[float, Floats] | None:
    """Macro one-against-rest AUROC, with what each row contributes to its error.

    Two classes share one curve. Classes without rows are left out; None where fewer than two occur.

    Returns:
        The AUROC, and (n,) influences: they sum to 0, and the sum of their squares is DeLong's variance (DeLong, DeLong
        and Clarke-Pearson 1988, without its n / (n - 1)).
    """
    occurring = np.unique(reference)
    if len(occurring) < 2:
        return None
    curves = [1] if probabilities.shape[1] == 2 else [int(label) for label in occurring]
    areas = []
    influence = np.zeros(len(reference))
    for label in curves:
        positive: npt.NDArray[np.bool_] = reference == label
        above = _placements(probabilities[positive, label], probabilities[~positive, label])
        below = 1 - _placements(probabilities[~positive, label], probabilities[positive, label])
        area = float(above.mean())
        areas.append(area)
        influence[positive] += (above - area) / len(above) / len(curves)
        influence[~positive] += (below - area) / len(below) / len(curves)
    return float(np.mean(areas)), influence


def _placements(scores: Floats, others: Floats) -> Floats:
    """For each score the share of the others below it, ties half."""
    ordered = np.sort(others)
    lower = np.searchsorted(ordered, scores, side="left")
    return (lower + np.searchsorted(ordered, scores, side="right")) / (2 * len(others))
