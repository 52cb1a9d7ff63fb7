"""One system on one set: every score with its interval.

Rows without groups: proportions (accuracy, precision, recall) have Wilson's interval. The others that depend on
counts are bootstrapped within each class, from counts smoothed as Wilson's centre is: each class gets z^2 extra
answers, half of them right and half spread over the wrong ones. The percentiles are then moved back to the value.
Without the smoothing, 20 rows of a class that all happen to be right could never go wrong in a resample, and the
interval would promise what 20 rows cannot.

Rows in groups: whole groups are resampled, and no interval is narrower than the one that ignores the groups.

AUROC has DeLong's interval, whose cost does not grow with resamples; the Brier score is a mean of rows and is
bootstrapped as one. ECE has none: it is biased upwards by an amount of the order of its own spread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlxdistill.evaluation import metrics
from mlxdistill.evaluation.metrics import Margins
from mlxdistill.evaluation.samples import Sample
from mlxdistill.statistics.calibration import BINS
from mlxdistill.statistics.intervals import (
    ONE_GROUP,
    Ends,
    Interval,
    Z,
    mean_interval,
    percentile_ends,
    percentile_levels,
    proportion,
    t_quantile,
    wilson,
)
from mlxdistill.statistics.resampling import (
    Floats,
    Integers,
    cluster_sums,
    generator,
    multinomial_counts,
    sums_by_cluster,
)

Score = Callable[[Margins], Floats]


@dataclass(frozen=True, slots=True)
class Resampling:
    """How often and with which seed intervals are bootstrapped."""

    resamples: int
    seed: int


def score(sample: Sample, labels: Sequence[str], resampling: Resampling) -> dict[str, Any]:
    """The entry of metrics.json for one system and set; null where a score does not exist."""
    n = len(sample.reference)
    confusion = metrics.confusion_matrix(sample.reference, sample.predicted, sample.labels)
    entry: dict[str, Any] = {"answered": n, "unparsable": int(confusion[:, -1].sum())}
    if n == 0:
        names = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "ece", "brier", "per_class")
        return entry | dict.fromkeys(names) | {"confusion": confusion.tolist()}
    counted = Counted(sample, confusion, resampling)
    entry["accuracy"] = accuracy_interval(sample, resampling).to_json()
    entry["balanced_accuracy"] = counted.interval(metrics.balanced_accuracy)
    entry["macro_f1"] = counted.interval(metrics.macro_f1)
    entry |= probability_scores(sample, resampling)
    entry["per_class"] = {
        name: {
            "precision": counted.proportion(metrics.precision, counted.seen.predicted, index),
            "recall": counted.proportion(metrics.recall, counted.seen.actual, index),
            "f1": counted.interval(_of_class(metrics.f1, index)),
            "support": int(counted.seen.actual[index]),
        }
        for index, name in enumerate(labels)
    }
    return entry | {"confusion": confusion.tolist()}


def _of_class(measure: Score, place: int) -> Score:
    """One class of a score that has one value for each."""
    return lambda m: measure(m)[..., place]


def accuracy_interval(sample: Sample, resampling: Resampling) -> Interval:
    """The share of rows predicted right. The sample has rows."""
    right = sample.predicted == sample.reference
    return proportion(right, sample.clusters, resamples=resampling.resamples, seed=resampling.seed)


class Counted:
    """The scores that depend on counts, resampled once for all of them."""

    def __init__(self, sample: Sample, confusion: Integers, resampling: Resampling) -> None:
        self.seen = metrics.margins(confusion)
        self._resampling = resampling
        self._centre, self._draws = _class_draws(confusion, resampling)
        self._groups: int | None = None
        self._group_draws: Margins | None = None
        if sample.clusters is not None:
            self._groups = int(sample.clusters.max()) + 1
            if self._groups > 1:
                self._group_draws = _group_draws(sample, resampling)

    def interval(self, measure: Score) -> dict[str, Any] | None:
        """A score with a bootstrap within the classes, or of the groups."""
        value = float(measure(self.seen))
        if math.isnan(value):
            return None
        moved = measure(self._draws) - float(measure(self._centre)) + value
        rows = percentile_ends(np.clip(moved, 0.0, 1.0), percentile_levels())
        return self._shown(Interval(value, rows, "stratified bootstrap", *self._numbers), measure)

    def proportion(self, measure: Score, totals: Floats, place: int) -> dict[str, Any] | None:
        """A class's precision or recall with Wilson's interval, or a bootstrap of the groups."""
        if totals[place] == 0:
            return None
        interval = wilson(int(self.seen.right[place]), int(totals[place]))
        return self._shown(interval, _of_class(measure, place))

    @property
    def _numbers(self) -> tuple[int, int]:
        return self._resampling.resamples, self._resampling.seed

    def _shown(self, rows: Interval, measure: Score) -> dict[str, Any]:
        if self._groups is None:
            return rows.widened((rows.value, rows.value)).to_json()
        if self._group_draws is None:
            return Interval(rows.value, None, "cluster bootstrap", *self._numbers, reason=ONE_GROUP).to_json()
        ends = percentile_ends(measure(self._group_draws), percentile_levels(self._groups))
        grouped = Interval(rows.value, ends, "cluster bootstrap", *self._numbers)
        return grouped.widened((rows.value, rows.value)).widened(rows.ci).to_json()


def _class_draws(confusion: Integers, resampling: Resampling) -> tuple[Margins, Margins]:
    """The smoothed counts, and the margins (resamples, K) of draws from them with every class's number of rows kept."""
    labels = len(confusion)
    rng = generator(resampling.seed)
    totals = confusion.sum(axis=1)
    # Only labels that occur can be drawn, or else a bootstrap would average over classes that the value leaves out.
    possible = np.append((totals + confusion[:, :-1].sum(axis=0)) > 0, True)
    smoothed = np.zeros(confusion.shape)
    right = np.zeros((resampling.resamples, labels))
    predicted = np.zeros((resampling.resamples, labels))
    for label in np.flatnonzero(totals):
        wrong = possible.copy()
        wrong[label] = False
        weights = confusion[label] + np.where(wrong, Z**2 / 2 / wrong.sum(), 0.0)
        weights[label] += Z**2 / 2
        smoothed[label] = weights * totals[label] / weights.sum()
        drawn = multinomial_counts(weights, int(totals[label]), resampling.resamples, rng)
        right[:, label] = drawn[:, label]
        predicted += drawn[:, :-1]
    actual = np.broadcast_to(totals.astype(np.float64), right.shape)
    return metrics.margins(smoothed), Margins(right, actual, predicted)


def _group_draws(sample: Sample, resampling: Resampling) -> Margins:
    """The margins (resamples, K) of resamples of whole groups."""
    assert sample.clusters is not None
    labels = np.eye(sample.labels + 1)[:, : sample.labels]
    actual, predicted = labels[sample.reference], labels[sample.predicted]
    sums = sums_by_cluster(np.column_stack([actual * predicted, actual, predicted]), sample.clusters)
    drawn = cluster_sums(sums, resampling.resamples, generator(resampling.seed))
    return Margins(*np.split(drawn, 3, axis=1))


def probability_scores(sample: Sample, resampling: Resampling) -> dict[str, Any]:
    """AUROC, ECE and Brier score over the rows with class probabilities; null without any."""
    rows = sample.with_probabilities
    if not len(rows):
        return {"auroc": None, "ece": None, "brier": None}
    reference, probabilities = sample.reference[rows], sample.probabilities
    clusters = None if sample.clusters is None else np.unique(sample.clusters[rows], return_inverse=True)[1]
    scores = metrics.brier_rows(reference, probabilities)
    sums = None if clusters is None else sums_by_cluster(np.column_stack([scores, np.ones(len(scores))]), clusters)
    numbers = {"resamples": resampling.resamples, "seed": resampling.seed}
    ece = metrics.expected_calibration_error(reference, probabilities)
    shown: dict[str, Any] = {
        "auroc": _auroc(reference, probabilities, clusters),
        "ece": {"value": ece, "ci": None, "method": f"{BINS} equal-width bins"},
        "brier": mean_interval(scores, clusters=sums, **numbers).to_json(),
    }
    if len(rows) < len(sample.reference):
        for entry in filter(None, shown.values()):
            entry["n"] = len(rows)
    return shown


def _auroc(reference: Integers, probabilities: Floats, clusters: Integers | None) -> dict[str, Any] | None:
    """DeLong's interval, or its form for groups (Obuchowski 1997), on the logit scale."""
    found = metrics.auroc_placements(reference, probabilities)
    if found is None:
        return None
    value, influence = found
    parts = influence if clusters is None else sums_by_cluster(influence[:, None], clusters)[:, 0]
    method = "delong" if clusters is None else "delong by group"
    if len(parts) < 2:
        return Interval(value, None, method, reason=ONE_GROUP).to_json()
    if not 0 < value < 1 or np.bincount(reference)[np.unique(reference)].min() < 2:
        return Interval(value, None, method, reason="too few rows overlap to tell").to_json()
    variances = [float((part**2).sum()) * len(part) / (len(part) - 1) for part in (parts, influence)]
    # Groups may look more alike than single rows by chance; take the larger doubt.
    error = math.sqrt(max(variances)) * (Z if clusters is None else t_quantile(len(parts) - 1))
    if error == 0:
        return Interval(value, None, method, reason="the class probabilities do not vary").to_json()
    return Interval(value, _logit_ends(value, error), method).to_json()


def _logit_ends(value: float, error: float) -> Ends:
    centre, half = math.log(value / (1 - value)), error / (value * (1 - value))
    low, high = (_logistic(centre + side) for side in (-half, half))
    return low, high


def _logistic(x: float) -> float:
    return 0.5 * (1 + math.tanh(x / 2))
