"""Many comparisons at once: what they still prove, and what they could have found.

Of twenty equal prompts one is "significantly better" than another by chance. Holm's (1979) step-down correction bounds
the chance that any such claim is false, however the comparisons depend on each other. The price is power, and a reader
should know it: `detectable_difference` says how large a difference the rows could have shown.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlxdistill.statistics.resampling import Floats, Integers

POWER = 0.8
_STEPS = 12  # halvings of the interval in which the difference is sought: to less than a thousandth


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values, in their order, corrected so that any below a level leaves at most that chance of a false one."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected = [1.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, (len(p_values) - rank) * p_values[place])
        corrected[place] = min(1.0, highest)
    return corrected


def detectable_difference(n: int, disagreement: float, level: float) -> float | None:
    """The smallest difference in accuracy that McNemar's exact test finds in four of five samples of `n` > 0 rows.

    The power is exact: the sum over every number of rows on which the two systems may differ.

    Args:
        disagreement: the share of rows on which one system is right and the other wrong; a difference larger than
            that is taken to be all the disagreement there is.
        level: of the test, such as 0.05 divided by the number of comparisons.

    Returns:
        A share, or None where not even a difference of 1 would be found.
    """
    differing = np.arange(n + 1)
    most_losses = _most_losses(differing, level)
    if _power(1.0, n, disagreement, differing, most_losses) < POWER:
        return None
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _power(middle, n, disagreement, differing, most_losses) < POWER:
            low = middle
        else:
            high = middle
    return high


def _most_losses(differing: Integers, level: float) -> Floats:
    """Of so many differing rows, how many the better system may lose for the test to reject; -1: none are enough."""
    from scipy.special import bdtr, bdtrik

    most: Floats = np.full(len(differing), -1.0)
    most[1:] = np.floor(np.nan_to_num(bdtrik(level / 2, differing[1:], 0.5), nan=-1.0)) + 1
    for _ in range(3):  # the inverse is continuous and may be one off
        most = np.where((most >= 0) & (bdtr(np.maximum(most, 0), differing, 0.5) > level / 2), most - 1, most)
    return most


def _power(difference: float, n: int, disagreement: float, differing: Integers, most_losses: Floats) -> float:
    from scipy.special import bdtr

    share = max(disagreement, difference)
    if share == 0:
        return 0.0
    losing = (share - difference) / (2 * share)
    weights = np.diff(bdtr(differing.astype(np.float64), n, share), prepend=0.0)
    found = np.where(most_losses >= 0, bdtr(np.maximum(most_losses, 0), differing, losing), 0.0)
    return float((weights * found).sum())
