"""The bins in which class probabilities are held against how often they are right.

Naeini et al. 2015: 15 bins of equal width, (m/15, (m+1)/15], over the probability of the top label. The calibration
error and the reliability diagrams are made of the same bins, so that a diagram adds up to its error.
"""

from __future__ import annotations

import numpy as np

from mlxdistill.statistics.resampling import Floats, Integers

BINS = 15


def bin_places(confidence: Floats) -> Integers:
    """The bin, 0 to 14, of each probability (n,); 0 belongs to the first."""
    return np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)


def calibration_error(confidence: Floats, right: Floats) -> float:
    """The expected calibration error: the mean gap, over the bins, between how sure and how often right.

    Args:
        confidence: (n,), n > 0, the probability of the top label.
        right: (n,), 1 where the top label is the right one, else 0.
    """
    gaps = np.bincount(bin_places(confidence), weights=confidence - right, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))
