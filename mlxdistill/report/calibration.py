"""Whether probabilities mean what they say: reliability diagrams from predictions.jsonl.

The bins are those of the expected calibration error (`statistics/calibration.py`). A row counts by whether its top
label is the gold one. Whiskers are Wilson's intervals; where rows of a bin come in groups, those of a bootstrap of the
groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlxdistill.report.blocks import Cell, Column, Figure, Notes, Section, Table
from mlxdistill.report.numbers import Estimate, finite, percent, percent_interval, whole
from mlxdistill.report.svg import Bin, reliability_diagram
from mlxdistill.report.systems import is_baseline, ordered_systems, score, set_scores, system_name, without_gold
from mlxdistill.statistics.calibration import BINS, bin_places
from mlxdistill.statistics.intervals import proportion
from mlxdistill.statistics.resampling import cluster_places

USUAL_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Outcome:
    """How sure a system was of a row, whether it was right, and which group the row belongs to, if any."""

    probability: float
    right: bool
    row: str = ""
    group: str | None = None


def calibration_section(metrics: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]) -> Section:
    """A reliability diagram for the student and each teacher on every test set."""
    if without_gold(metrics):
        text = "Without gold there is no telling whether an answer given with 90 % is right nine times in ten."
        return Section("calibration", "Calibration", (text,))
    labels = [str(label) for label in metrics.get("labels") or ()]
    outcomes: dict[tuple[str, str], list[Outcome]] = {}
    for record in predictions:
        outcome = top_outcome(record, labels)
        if outcome is not None:
            outcomes.setdefault((str(record.get("system")), str(record.get("set"))), []).append(outcome)
    figures = []
    for set_index, test_set in enumerate(metrics.get("sets") or {}):
        for index, system in enumerate(ordered_systems(metrics)):
            own = outcomes.get((system, test_set))
            if own and not is_baseline(system):
                figures.append(_figure(metrics, system, test_set, own, f"calibration-{set_index}-{index}"))
    if not figures:
        return Section("calibration", "Calibration", ("No class probabilities were recorded for rows with gold.",))
    text = (
        "Answers are put into 15 bins by their probability. Where a bar ends on the dashed line, the system is right "
        "as often as it says; below the line it is too sure. Whiskers are 95 % intervals; the numbers under the bars "
        "count rows."
    )
    if any(outcome.group is not None for own in outcomes.values() for outcome in own):
        text += " Rows come in groups: the intervals allow for rows of a group that go right or wrong together."
    return Section("calibration", "Calibration", (text,), tuple(figures))


def top_outcome(record: Mapping[str, Any], labels: Sequence[str]) -> Outcome | None:
    """What the record says of its top label; None without probabilities or gold."""
    raw, gold, group = record.get("probabilities"), record.get("gold"), record.get("group")
    if gold is None or not isinstance(raw, Sequence) or len(raw) != len(labels):
        return None
    shares = [finite(share) for share in raw]
    known = [share for share in shares if share is not None]
    if not known or len(known) != len(labels):
        return None
    top = max(known)
    right = labels[known.index(top)] == gold
    return Outcome(min(1.0, max(0.0, top)), right, str(record.get("id", "")), None if group is None else str(group))


def reliability_bins(outcomes: Sequence[Outcome], resamples: int = USUAL_RESAMPLES, seed: int = 0) -> list[Bin]:
    """The 15 bins, empty ones included. `resamples` and `seed` are those of a bootstrap of groups."""
    places = bin_places(np.array([outcome.probability for outcome in outcomes], dtype=np.float64))
    grouped: list[list[Outcome]] = [[] for _ in range(BINS)]
    for place, outcome in zip(places, outcomes, strict=True):
        grouped[place].append(outcome)
    bins = []
    for index, group in enumerate(grouped):
        confidence = float(np.mean([outcome.probability for outcome in group])) if group else 0.0
        correct = _share(group, resamples, seed) if group else Estimate()
        bins.append(Bin(index / BINS, (index + 1) / BINS, len(group), confidence, correct))
    return bins


def _share(outcomes: Sequence[Outcome], resamples: int, seed: int) -> Estimate:
    clusters = cluster_places([(outcome.row, outcome.group) for outcome in outcomes])
    right = np.array([outcome.right for outcome in outcomes])
    interval = proportion(right, clusters, resamples=resamples, seed=seed)
    low, high = interval.ci or (None, None)
    return Estimate(interval.value, low, high, interval.reason)


def _figure(metrics: Mapping[str, Any], system: str, test_set: str, outcomes: Sequence[Outcome], key: str) -> Figure:
    settings = metrics.get("settings") or {}
    resamples, seed = (finite(settings.get(name)) for name in ("resamples", "seed"))
    bins = reliability_bins(outcomes, int(resamples or USUAL_RESAMPLES), int(seed or 0))
    title, notes = f"{system_name(system)} on {test_set}", Notes()
    error = score(set_scores(metrics, system, test_set), "ece")
    caption = f"{whole(len(outcomes))} rows"
    if error.value is not None:
        caption += f", ECE {percent(error.value)} {percent_interval(error.low, error.high)}".rstrip()
    rows = tuple(
        (
            Cell(f"{percent(each.low)} to {percent(each.high)}"),
            Cell(whole(each.count)),
            Cell(percent(each.confidence)),
            notes.share(each.correct),
        )
        for each in bins
        if each.count
    )
    columns = (Column("Probability", False), Column("Rows"), Column("Mean probability"), Column("Accuracy"))
    table = Table(f"{key}-table", title, columns, rows, tuple(notes.reasons))
    return Figure(reliability_diagram(key, title, bins), title, caption, table)
