"""The verdict in words, the same for the command line and the report.

It begins with what a reader must not miss: a naive baseline that the student does not beat, or that the rows cannot
tell; it ends with those that are ahead on another set. It never says better or worse where the noise could have done
it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlxdistill.evaluation.verdict import REPLACEMENT_SET
from mlxdistill.statistics.written import signed

NAIVE = ("majority", "tfidf_logreg")
WINS = ("student is better", "student agrees more with the teacher")
LOSSES = ("student is worse", "student agrees less with the teacher")
_MOST_CLASSES_COUNTED = 6


def verdict_sentence(metrics: Mapping[str, Any]) -> str:
    """What metrics.json says about the student, in one to four sentences. Takes the whole of metrics.json."""
    verdict = (
        _agreement(metrics) if metrics["reference"] == "teacher" else _replacement(metrics["replacement"], metrics)
    )
    return " ".join([*_unbeaten(metrics), verdict, *_behind(metrics)])


def _unbeaten(metrics: Mapping[str, Any]) -> list[str]:
    """The naive baselines that the student does not beat on the set that decides."""
    main = _main_set(metrics)
    found = [_against(entry) for entry in _rivals(metrics) if entry["set"] == main and entry["verdict"] not in WINS]
    kind = "agreement with the teacher" if metrics["reference"] == "teacher" else "accuracy"
    said = f"The student does not beat every naive baseline: in {kind} on {main} it is {_listed(found)}."
    return [said] if found else []


def _behind(metrics: Mapping[str, Any]) -> list[str]:
    """The naive baselines that the student loses to on another set."""
    said = []
    for name in metrics["sets"]:
        if name != _main_set(metrics):
            ahead = [entry["b"] for entry in _rivals(metrics) if entry["set"] == name and entry["verdict"] in LOSSES]
            less = "agrees less with the teacher" if metrics["reference"] == "teacher" else "is worse"
            said += [f"On {name} the student {less} than {_listed(ahead)}."] if ahead else []
    return said


def _main_set(metrics: Mapping[str, Any]) -> str | None:
    return REPLACEMENT_SET if REPLACEMENT_SET in metrics["sets"] else next(iter(metrics["sets"]), None)


def _rivals(metrics: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [entry for entry in metrics["comparisons"] if entry["b"] in NAIVE and entry["verdict"]]


def _against(entry: Mapping[str, Any]) -> str:
    said = f"{_points(entry['difference'])} points ({_span(entry['ci'])})"
    if entry["verdict"] in LOSSES:
        return f"below {entry['b']}, by {said}"
    return f"within the noise of {entry['b']}, at {said}"


def _replacement(entry: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    verdict, margin = entry["verdict"], f"{100 * entry['margin']:.3g} points"
    if entry["difference"] is None:
        begin = "Undecided" if verdict else "No verdict on"
        return f"{begin} whether the student may replace the teacher: {entry['reason']}."
    score = entry["metric"].replace("_", " ")
    differs = f"its {score} differs by {_points(entry['difference'])} points ({_span(entry['ci'])})"
    where = f"on {_rows(entry, metrics)} {differs}"
    if verdict == "yes":
        return f"The student may replace the teacher: {where}, which is no more than {margin} below."
    if verdict == "no":
        return f"The student may not replace the teacher: {where}, which is more than {margin} below."
    said = f"Undecided whether the student may replace the teacher: {where}, and the margin is {margin}"
    rows = entry["rows_needed"]
    return f"{said}; about {_rounded(rows)} rows would decide, {entry['n']} are there." if rows else f"{said}."


def _rows(entry: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """The set, and where both answered only part of it, which."""
    counts, name = entry.get("class_counts"), str(entry["set"])
    if counts is None:
        return name
    if len(counts) <= _MOST_CLASSES_COUNTED:
        classes = ", ".join(f"{label} {count}" for label, count in counts.items())
    else:
        classes = f"{min(counts.values())} to {max(counts.values())} of each label"
    return f"{name}, on the {entry['n']} of {metrics['sets'][name]['n']} rows both answered ({classes}),"


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
    return signed(100 * share)


def _span(ci: Sequence[float] | None) -> str:
    return f"95 % interval {_points(ci[0])} to {_points(ci[1])}" if ci else "no interval: too few groups of rows"


def _shares(ci: Sequence[float] | None) -> str:
    return f"95 % interval {100 * ci[0]:.1f} to {100 * ci[1]:.1f}" if ci else "no interval: too few groups of rows"


def _rounded(rows: int) -> str:
    """Upwards to two digits: the figure is a plan, not a measurement."""
    step = 10 ** max(0, len(str(rows)) - 2)
    return f"{-(-rows // step) * step:,}"
