"""Class probabilities set right: divided by what a text without content gets, and scaled by one temperature.

Both are fitted on other rows than those they are judged on, and neither is used unless it was asked for.
"""

from __future__ import annotations

import math

import numpy as np

from mlxdistill.statistics.resampling import Floats, Integers

CONTENT_FREE_TEXTS = ("N/A", "[MASK]", "")
# Less than this is noise of the arithmetic, and dividing by it would let that noise decide.
LEAST_CONTENT_FREE = 1e-6
LEAST_SHARE = 1e-12
FEWEST_ROWS = 20
LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.05, 50.0


def without_bias(shares: Floats, content_free: Floats) -> Floats:
    """Class probabilities (n, K) divided by those of texts that say nothing (K,), normalised again.

    What the prompt alone makes likely is taken out of every answer. Source: Zhao, Wallace, Feng, Klein, Singh,
    Calibrate before use, 2021 (2102.09690): W = diag(p_cf)^-1, b = 0.
    """
    divided = shares / np.maximum(content_free, LEAST_CONTENT_FREE)
    normalised: Floats = divided / np.maximum(divided.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    return normalised


def smoothed_votes(shares: Floats, votes: int) -> Floats:
    """Shares (n, K) of `votes` votes with one more, spread evenly: a label that no sample named is not impossible."""
    smoothed: Floats = (votes * shares + 1 / shares.shape[1]) / (votes + 1)
    return smoothed


def fit_temperature(shares: Floats, gold: Integers) -> float:
    """The temperature T > 0 with which shares^(1/T) fit the gold labels best (least negative log-likelihood).

    Above 1 the teacher was too sure of itself. Much as in Platt 1999, each gold label weighs (n + 1) / (n + 2) and the
    rest is spread over all labels, so that rows which all happen to be right do not promise certainty.

    Args:
        shares: (n, K) class probabilities, n > 0.
        gold: (n,) places of the right labels.

    Source: Guo, Pleiss, Sun, Weinberger, On calibration of modern neural networks, 2017 (1706.04599).
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    rows = len(shares)
    logs = np.log(np.maximum(shares, LEAST_SHARE))
    doubt = 1 / (rows + 2)
    wanted = (1 - doubt) * logs[np.arange(rows), gold] + doubt * logs.mean(axis=1)

    def loss(log_temperature: float) -> float:
        sharpness = math.exp(-log_temperature)
        return float((logsumexp(sharpness * logs, axis=1) - sharpness * wanted).mean())

    bounds = (math.log(LEAST_TEMPERATURE), math.log(MOST_TEMPERATURE))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(math.exp(found.x))


def scaled(shares: Floats, temperature: float) -> Floats:
    """shares^(1 / temperature), normalised: (n, K). The order of the labels stays."""
    logs = np.log(np.maximum(shares, LEAST_SHARE)) / temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    normalised: Floats = powers / powers.sum(axis=1, keepdims=True)
    return normalised
