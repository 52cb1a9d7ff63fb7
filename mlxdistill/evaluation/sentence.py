"""The verdict in words, the same for the command line and the report.

It begins with what a reader must not miss: a naive baseline that the student does not beat, or that the rows cannot
tell. It never says better or worse where the noise could have done it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlxdistill.evaluation.verdict import REPLACEMENT_SET

NAIVE = ("majority", "tfidf_logreg")


def verdict_sentence(metrics: Mapping[str, Any]) -> str:
    """What metrics.json says about the student, in one to three sentences. Takes the whole of metrics.json."""
    said = _unbeaten(metrics)
    if metrics["reference"] == "teacher":
        return " ".join([*said, _agreement(metrics)])
    return " ".join([*said, _replacement(metrics["replacement"], metrics)])


def _unbeaten(metrics: Mapping[str, Any]) -> list[str]:
    """One sentence about the naive baselines that the student is not significantly better than."""
    set_name = REPLACEMENT_SET if REPLACEMENT_SET in metrics["sets"] else next(iter(metrics["sets"]), None)
    rivals = [
        entry
        for entry in metrics["comparisons"]
        if entry["b"] in NAIVE and entry["set"] == set_name and entry["verdict"] and not _wins(entry)
    ]
    if not rivals:
        return []
    kind = "agreement with the teacher" if metrics["reference"] == "teacher" else "accuracy"
    parts = [_against(entry) for entry in rivals]
    return [f"The student does not beat every naive baseline: in {kind} on {set_name} it is {_listed(parts)}."]


def _wins(entry: Mapping[str, Any]) -> bool:
    return entry["verdict"] in ("student is better", "student agrees more with the teacher")


def _against(entry: Mapping[str, Any]) -> str:
    said = f"{_points(entry['difference'])} points ({_span(entry['ci'])})"
    if entry["verdict"] in ("student is worse", "student agrees less with the teacher"):
        return f"below {entry['b']}, by {said}"
    return f"within the noise of {entry['b']}, at {said}"


def _replacement(entry: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    verdict, margin = entry["verdict"], f"{100 * entry['margin']:.3g} points"
    if entry["difference"] is None:
        return f"Undecided whether the student may replace the teacher: {entry['reason']}."
    where = f"on {entry['set']} its accuracy differs by {_points(entry['difference'])} points ({_span(entry['ci'])})"
    if verdict == "yes":
        return f"The student may replace the teacher: {where}, which is no more than {margin} below."
    if verdict == "no":
        return f"The student may not replace the teacher: {where}, which is more than {margin} below."
    said = f"Undecided whether the student may replace the teacher: {where}, and the margin is {margin}"
    rows = entry["rows_needed"]
    return f"{said}; about {_rounded(rows)} rows would decide, {entry['n']} are there." if rows else f"{said}."


def _agreement(metrics: Mapping[str, Any]) -> str:
    parts = []
    for set_name, scores in metrics["systems"].get("student", {"sets": {}})["sets"].items():
        agreement = scores.get("agreement")
        if agreement is not None:
            parts.append(f"on {100 * agreement['value']:.1f} % of {set_name} ({_shares(agreement['ci'])})")
    said = f"the student agrees with the teacher {_listed(parts)}" if parts else "the student answered none of its rows"
    return f"Undecided whether the student may replace the teacher: the test rows have no gold; {said}."


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(parts) if len(parts) < 3 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _span(ci: Sequence[float] | None) -> str:
    return f"95 % interval {_points(ci[0])} to {_points(ci[1])}" if ci else "no interval: too few groups of rows"


def _shares(ci: Sequence[float] | None) -> str:
    return f"95 % interval {100 * ci[0]:.1f} to {100 * ci[1]:.1f}" if ci else "no interval: too few groups of rows"


def _rounded(rows: int) -> str:
    """Upwards to two digits: the figure is a plan, not a measurement."""
    step = 10 ** max(0, len(str(rows)) - 2)
    return f"{-(-rows // step) * step:,}"
