"""What follows from the scores: who is better, how much is retained, may the student replace the teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mlxdistill.report.blocks import Cell, Column, Figure, Notes, Section, Table
from mlxdistill.report.numbers import (
    MISSING,
    Estimate,
    finite,
    p_value,
    percent,
    percent_interval,
    points,
    points_interval,
    rate,
    read_estimate,
    whole,
)
from mlxdistill.report.svg import margin_chart
from mlxdistill.report.systems import (
    SCORES,
    class_counts,
    score,
    score_heading,
    set_scores,
    shown_scores,
    system_name,
    without_gold,
)

COMPARISON_COLUMNS = (
    Column("Systems", numeric=False),
    Column("Verdict", numeric=False),
    Column("Set", numeric=False),
    Column("Score", numeric=False),
    Column("Difference"),
    Column("p"),
    Column("Rows"),
)


def comparisons_section(metrics: Mapping[str, Any]) -> Section:
    notes = Notes()
    rows = tuple(_comparison(entry, notes) for entry in metrics.get("comparisons") or ())
    if not rows:
        return Section("comparisons", "Comparisons", ("No two systems were compared.",))
    caption = "Paired comparisons on the rows both systems answered"
    table = Table("comparisons-table", caption, COMPARISON_COLUMNS, rows, tuple(notes.reasons))
    text = (
        "A difference is the first system’s score minus the second’s, in percentage points with its 95 % interval. "
        "Better and worse are said only outside the noise."
    )
    used = [str(entry.get("test")) for entry in metrics["comparisons"] if entry.get("p_value") is not None]
    explained = tuple(TESTS[test][1] for test in dict.fromkeys(used) if test in TESTS)
    return Section("comparisons", "Comparisons", (text, *explained), tables=(table,))


def _comparison(entry: Mapping[str, Any], notes: Notes) -> tuple[Cell, ...]:
    first, second = (system_name(str(entry.get(side))) for side in ("a", "b"))
    difference, p = _difference(entry), finite(entry.get("p_value"))
    verdict = str(entry.get("verdict") or "not compared")
    return (
        Cell(f"{first} against {lowered(second)}"),
        Cell(verdict[:1].upper() + verdict[1:]),
        Cell(str(entry.get("set", MISSING))),
        Cell(_metric(entry)),
        Cell(points(difference.value), points_interval(difference.low, difference.high))
        if difference.value is not None
        else notes.shown(MISSING, difference.reason),
        Cell(p_value(p), test_name(entry.get("test"))) if p is not None else notes.shown(MISSING, difference.reason),
        Cell(whole(entry.get("n")), class_counts(entry)),
    )


# Each test's name, and what it asks of the rows that only one of two systems has right.
TESTS = {
    "mcnemar": (
        "McNemar",
        "McNemar’s test asks how often chance alone would split the rows that only one of the two systems has right as "
        "unevenly as here, were both equally good.",
    ),
    "sign flip by group": (
        "sign flip by group",
        "The sign flip by group asks how often the difference would be as large as here if in every group of rows the "
        "two systems’ answers were exchanged at random; McNemar’s test would take each row for independent evidence, "
        "though rows of a group tend to go right or wrong together.",
    ),
}


def test_name(test: Any) -> str:
    return TESTS[test][0] if test in TESTS else str(test or "")


def lowered(name: str) -> str:
    """A system's name inside a sentence: `Teacher` becomes `teacher`, `TF-IDF` stays."""
    return name[:1].lower() + name[1:] if name[1:2].islower() else name


def _metric(entry: Mapping[str, Any]) -> str:
    name = str(entry.get("metric") or MISSING)
    return SCORES[name].lower() if name in ("accuracy", "agreement", "balanced_accuracy") else SCORES.get(name, name)


def _difference(entry: Mapping[str, Any]) -> Estimate:
    return read_estimate({"value": entry.get("difference"), "ci": entry.get("ci"), "reason": entry.get("reason")})


def retention_section(metrics: Mapping[str, Any]) -> Section:
    if without_gold(metrics):
        return Section("retention", "Retention", ("Without gold the teacher has no score to retain.",))
    notes, rows = Notes(), []
    for test_set, facts in (metrics.get("retention") or {}).items():
        if not isinstance(facts, Mapping):
            continue
        kept = read_estimate(dict(facts))
        above = {"value": facts.get("above_chance"), "ci": facts.get("above_chance_ci"), "reason": facts.get("reason")}
        if kept.interval is not None:
            kept = replace(kept, reason=None)
        cells = (notes.share(kept), notes.share(read_estimate(above)))
        size = Cell(whole(facts.get("n")), class_counts(facts))
        rows.append((Cell(str(test_set)), Cell(_metric(facts)), *cells, size))
    if not rows:
        return Section("retention", "Retention", ("Retention was not measured.",))
    columns = (
        Column("Set", False),
        Column("Score", False),
        Column("Retention"),
        Column("Above chance"),
        Column("Rows"),
    )
    table = Table("retention-table", "Student score / teacher score", columns, tuple(rows), tuple(notes.reasons))
    text = (
        "How much of the teacher’s score the student keeps, on the rows both answered; above chance: the same after "
        "taking from both what always answering the most frequent label would score."
    )
    return Section("retention", "Retention", (text,), tables=(table,))


@dataclass(frozen=True, slots=True)
class Verdict:
    """The replacement verdict: `kind` (yes, no, undecided, none) picks the badge's colour and sign."""

    kind: str
    label: str
    figure: Figure | None = None


LABELS = {"yes": "Yes", "no": "No", "undecided": "Undecided", "none": "No verdict"}


def replacement(metrics: Mapping[str, Any]) -> Verdict:
    """The badge, and the chart of the difference beside the margin where there is one."""
    entry = metrics.get("replacement") or {}
    kind = str(entry.get("verdict"))
    if kind not in LABELS or without_gold(metrics):
        kind = "none"
    difference, margin = _difference(entry), finite(entry.get("margin"))
    if kind == "none" or difference.value is None or margin is None:
        return Verdict(kind, LABELS[kind])
    title = f"Student minus teacher on {entry.get('set')}, points of {_metric(entry)}"
    figure = Figure(
        margin_chart("margin", title, difference, margin),
        title,
        "Shaded: better, or worse by less than the margin.",
        _margin_table(difference, margin),
    )
    return Verdict(kind, LABELS[kind], figure)


def _margin_table(difference: Estimate, margin: float) -> Table:
    low, high = difference.interval or (None, None)
    values = (("Difference", difference.value), ("Lower end", low), ("Upper end", high), ("Margin", -margin))
    rows = tuple((Cell(name), Cell(points(value))) for name, value in values)
    return Table(
        "margin-table", "Difference and margin, in points", (Column("What", numeric=False), Column("Points")), rows
    )


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """One of the few numbers a reader came for."""

    name: str
    value: str
    detail: str


def key_figures(metrics: Mapping[str, Any]) -> tuple[KeyFigure, ...]:
    """The score of both on the set that decides, and how much faster the student is."""
    verdict = metrics.get("replacement") or {}
    main = verdict["metric"] if verdict.get("metric") in shown_scores(metrics) else shown_scores(metrics)[0]
    deciding = verdict.get("set") or next(reversed(metrics.get("sets") or {}), None)
    total = finite(((metrics.get("sets") or {}).get(deciding) or {}).get("n"))
    figures = []
    for system in ("student", "teacher"):
        scores = set_scores(metrics, system, str(deciding))
        estimate, answered = score(scores, main), finite(scores.get("answered"))
        if estimate.value is not None:
            interval = percent_interval(estimate.low, estimate.high)
            where = f"{whole(answered)} rows of {deciding}" if answered and total and answered < total else deciding
            detail = f"{interval} {score_heading(metrics, main).lower()} on {where}".strip()
            figures.append(KeyFigure(system_name(system), percent(estimate.value), detail))
    facts = metrics.get("systems") or {}
    fast, slow = (
        read_estimate((facts.get(each) or {}).get("rows_per_second")).value for each in ("student", "teacher")
    )
    if fast and slow:
        detail = f"{rate(fast)} rows/s against the teacher’s {rate(slow)}"
        figures.append(KeyFigure("Speed", f"{rate(fast / slow)}×", detail))
    return tuple(figures)
