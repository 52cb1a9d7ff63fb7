"""What each way of putting answers right did, on validation rows with gold.

Every step is an option that somebody chose; nothing is switched on because it scored well here, and test rows are never
looked at. A step's difference in accuracy has its interval, so that nobody takes noise for a gain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlxdistill.statistics.calibration import BINS, calibration_error
from mlxdistill.statistics.intervals import Interval, proportion
from mlxdistill.statistics.paired import cluster_difference, paired_difference
from mlxdistill.statistics.resampling import Integers, cluster_places, sums_by_cluster
from mlxdistill.tasks.rows import Row
from mlxdistill.teacher.opinions import TEMPERATURE
from mlxdistill.teacher.votes import Flags, Opinions

CALIBRATION = "calibration"


@dataclass(frozen=True, slots=True)
class GoldRows:
    """Validation rows with gold.

    Attributes:
        rows: (n) the rows, in the order of all opinions about them.
        places: (n,) the gold label's place in the task's order.
        calibration: (n,) whether the row is of the half that temperatures are fitted on.
        resamples, seed: of bootstraps, where rows come in groups.
    """

    rows: tuple[Row, ...]
    places: Integers
    calibration: Flags
    resamples: int
    seed: int

    def of(self, chosen: Flags) -> GoldRows:
        rows = tuple(row for row, taken in zip(self.rows, chosen, strict=True) if taken)
        return GoldRows(rows, self.places[chosen], self.calibration[chosen], self.resamples, self.seed)

    @property
    def clusters(self) -> Integers | None:
        groups = [None if (group := row.meta.get("group")) is None else str(group) for row in self.rows]
        return cluster_places(list(zip((row.id for row in self.rows), groups, strict=True)))


def gold_rows(rows: Sequence[Row], labels: Sequence[str], *, resamples: int, seed: int) -> GoldRows:
    """Those of the validation rows that have gold."""
    position = {label: index for index, label in enumerate(labels)}
    known = tuple(row for row in rows if row.gold is not None)
    return GoldRows(
        known,
        np.array([position[row.gold or ""] for row in known], dtype=np.int64),
        np.array([row.meta.get("half") == CALIBRATION for row in known], dtype=np.bool_),
        resamples,
        seed,
    )


def scores(opinions: Opinions, gold: GoldRows) -> dict[str, Any]:
    """`n` rows that were answered, and on these accuracy and ECE; null where no row, or no probability, says."""
    opinions, gold = opinions.of(opinions.answered), gold.of(opinions.answered)
    if not gold.rows:
        return {"n": 0, "accuracy": None, "ece": None}
    right = opinions.labels == gold.places
    accuracy = proportion(right, gold.clusters, resamples=gold.resamples, seed=gold.seed)
    graded, ece = opinions.graded, None
    if graded.any():
        sure = opinions.shares.max(axis=1)[graded]
        hit = (opinions.shares.argmax(axis=1) == gold.places)[graded].astype(np.float64)
        ece = {"value": calibration_error(sure, hit), "ci": None, "method": f"{BINS} equal-width bins"}
    return {"n": len(gold.rows), "accuracy": accuracy.to_json(), "ece": ece}


def step_effects(steps: Mapping[str, Opinions], gold: GoldRows) -> list[dict[str, Any]]:
    """The effect of each step on what the step before left.

    A temperature is judged on the half of the rows that it was not fitted on.

    Args:
        steps: as `Rule.steps` gives them, of the gold rows.
    """
    found = []
    for (_, before), (step, after) in zip(list(steps.items())[:-1], list(steps.items())[1:], strict=True):
        judged = ~gold.calibration if step == TEMPERATURE else np.ones(len(gold.rows), dtype=np.bool_)
        found.append({"step": step, **effect(before.of(judged), after.of(judged), gold.of(judged))})
    return found


def effect(before: Opinions, after: Opinions, gold: GoldRows) -> dict[str, Any]:
    """`n`, the scores `before` and `after`, and the `difference` in accuracy, on the rows that both answered."""
    both = before.answered & after.answered
    before, after, gold = before.of(both), after.of(both), gold.of(both)
    was, became = scores(before, gold), scores(after, gold)
    n = was.pop("n")
    became.pop("n")
    difference = _difference(after.labels == gold.places, before.labels == gold.places, gold) if n else None
    return {"n": n, "before": was, "after": became, "difference": difference and difference.to_json()}


def _difference(a_right: Flags, b_right: Flags, gold: GoldRows) -> Interval:
    a_only, b_only = a_right & ~b_right, b_right & ~a_right
    clusters = gold.clusters
    if clusters is None:
        return paired_difference(int(a_only.sum()), int(b_only.sum()), len(a_right))
    sums = sums_by_cluster(np.column_stack([a_only, b_only, np.ones(len(a_right))]).astype(np.float64), clusters)
    return cluster_difference(sums, resamples=gold.resamples, seed=gold.seed)
