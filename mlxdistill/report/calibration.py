"""Whether probabilities mean what they say: reliability diagrams from predictions.jsonl.

The bins are those of the expected calibration error (Naeini et al. 2015): 15 of equal width, (m/15, (m+1)/15], over the
top label's probability. A row counts by whether its top label is the gold one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlxdistill.report.blocks import Cell, Column, Figure, Section, Table
from mlxdistill.report.numbers import Estimate, finite, percent, percent_interval, whole
from mlxdistill.report.svg import Bin, reliability_diagram
from mlxdistill.report.systems import is_baseline, ordered_systems, score, set_scores, system_name, without_gold
from mlxdistill.statistics.intervals import wilson_ends

BINS = 15


def calibration_section(metrics: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]) -> Section:
    """A reliability diagram for the student and each teacher on every test set."""
    if without_gold(metrics):
        text = "Without gold there is no telling whether an answer given with 90 % is right nine times in ten."
        return Section("calibration", "Calibration", (text,))
    labels = [str(label) for label in metrics.get("labels") or ()]
    outcomes: dict[tuple[str, str], list[tuple[float, bool]]] = {}
    for record in predictions:
        outcome = top_outcome(record, labels)
        if outcome is not None:
            outcomes.setdefault((str(record.get("system")), str(record.get("set"))), []).append(outcome)
    figures = []
    for set_index, test_set in enumerate(metrics.get("sets") or {}):
        for index, system in enumerate(ordered_systems(metrics)):
            pairs = outcomes.get((system, test_set))
            if pairs and not is_baseline(system):
                figures.append(_figure(metrics, system, test_set, pairs, f"calibration-{set_index}-{index}"))
    if not figures:
        return Section("calibration", "Calibration", ("No class probabilities were recorded for rows with gold.",))
    text = (
        "Answers are put into 15 bins by their probability. Where a bar ends on the dashed line, the system is right "
        "as often as it says; below the line it is too sure. Whiskers are 95 % intervals; the numbers under the bars "
        "count rows."
    )
    return Section("calibration", "Calibration", (text,), tuple(figures))


def top_outcome(record: Mapping[str, Any], labels: Sequence[str]) -> tuple[float, bool] | None:
    """(probability of the top label, whether that is the gold one); None without probabilities or gold."""
    raw, gold = record.get("probabilities"), record.get("gold")
    if gold is None or not isinstance(raw, Sequence) or len(raw) != len(labels):
        return None
    shares = [finite(share) for share in raw]
    known = [share for share in shares if share is not None]
    if not known or len(known) != len(labels):
        return None
    top = max(known)
    return min(1.0, max(0.0, top)), labels[known.index(top)] == gold


def reliability_bins(outcomes: Iterable[tuple[float, bool]]) -> list[Bin]:
    """The 15 bins, empty ones included, from pairs of (top probability, right or not)."""
    grouped: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for probability, correct in outcomes:
        grouped[min(max(math.ceil(probability * BINS) - 1, 0), BINS - 1)].append((probability, correct))
    bins = []
    for index, group in enumerate(grouped):
        confidence = math.fsum(probability for probability, _ in group) / len(group) if group else 0.0
        right = sum(correct for _, correct in group)
        bins.append(Bin(index / BINS, (index + 1) / BINS, len(group), confidence, _share(right, len(group))))
    return bins


def _share(right: int, count: int) -> Estimate:
    return Estimate(right / count, *wilson_ends(right, count)) if count else Estimate()


def _figure(
    metrics: Mapping[str, Any], system: str, test_set: str, pairs: Sequence[tuple[float, bool]], key: str
) -> Figure:
    bins, title = reliability_bins(pairs), f"{system_name(system)} on {test_set}"
    error = score(set_scores(metrics, system, test_set), "ece")
    caption = f"{whole(len(pairs))} rows"
    if error.value is not None:
        caption += f", ECE {percent(error.value)} {percent_interval(error.low, error.high)}".rstrip()
    rows = tuple(
        (
            Cell(f"{percent(each.low)} to {percent(each.high)}"),
            Cell(whole(each.count)),
            Cell(percent(each.confidence)),
            Cell(percent(each.correct.value), percent_interval(each.correct.low, each.correct.high)),
        )
        for each in bins
        if each.count
    )
    columns = (Column("Probability", False), Column("Rows"), Column("Mean probability"), Column("Accuracy"))
    return Figure(reliability_diagram(key, title, bins), title, caption, Table(f"{key}-table", title, columns, rows))
