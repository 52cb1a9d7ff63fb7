"""What becomes of rows whose labels are likely wrong.

Dropping a share of all rows eats the rare class where the teacher sees it too often: `drop_per_class` takes at most the
same share of every class. Or the row stays: it counts less (`weigh`), learns the other opinion beside its label
(`soften`), or learns the other label in its place (`flip`). The teacher's answer in the store is never touched:
treatments are in the decision, and hold until the next filtering.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mlxdistill.config.filter import NoiseAction
from mlxdistill.statistics.resampling import Floats, Integers
from mlxdistill.store import Decision

LEAST_WEIGHT = 0.01  # a row of weight 0 would not be a row


def named_rows(
    scores: Floats, suspect: NDArray[np.bool_], taught: Integers, share: float, *, per_class: bool
) -> NDArray[np.bool_]:
    """Which rows are named: of those that are suspect the lowest scores, of equals the first.

    Args:
        share: the most that is named, of all rows, or of those of each class.
    """
    named = np.zeros(len(scores), bool)
    for among in [taught == label for label in np.unique(taught)] if per_class else [np.ones(len(scores), bool)]:
        places = np.flatnonzero(suspect & among)
        most = int(share * np.count_nonzero(among) + 0.5)
        named[places[np.argsort(scores[places], kind="stable")][:most]] = True
    return named


def treat(
    decision: Decision, action: NoiseAction, *, trust: float | None = None, opinion: Mapping[str, float] | None = None
) -> Decision:
    """The decision about a named row, whose reason says why it was named.

    Args:
        trust: how much the row is to count where it is weighed, from 0 to 1; default: the least.
        opinion: the class probabilities that speak against its label, in the task's order, to soften or flip by.
    """
    if action in ("drop", "drop_per_class"):
        return replace(decision, kept=False)
    if action == "weigh":
        weight = min(1.0, max(LEAST_WEIGHT, trust or 0.0))
        return replace(decision, reason=f"{decision.reason}: counts less", weight=weight)
    assert opinion is not None
    if action == "soften":
        return replace(decision, reason=f"{decision.reason}: both are learned", probabilities=tuple(opinion.values()))
    likeliest = max(opinion, key=lambda label: opinion[label])
    return replace(decision, reason=f"{decision.reason}: learned as that", label=likeliest)
