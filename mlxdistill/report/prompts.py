"""Which prompts were compared before the teacher answered, and how far they can be told apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlxdistill.report.blocks import Cell, Column, Figure, Notes, Section, Table
from mlxdistill.report.numbers import (
    MISSING,
    finite,
    p_value,
    points,
    points_interval,
    rate,
    read_estimate,
    whole,
)
from mlxdistill.report.svg import Dot, interval_chart

COLUMNS = (
    Column("Candidate", False),
    Column("Accuracy"),
    Column("Balanced accuracy"),
    Column("Unparsable"),
    Column("Tokens a row"),
    Column("Rows a second"),
    Column("Against the best"),
    Column("p"),
    Column("Verdict", False),
)
WHY_MISSING = "its answers came from the store, and what they took was not measured"
WORSE = "worse"


def prompts_section(outcome: Mapping[str, Any]) -> Section:
    """The section of a run with `evaluation/prompts.json`, whose content is given."""
    said = [each["sentence"] for each in outcome["recommendations"]] + list(outcome["caveats"])
    entries = outcome["candidates"]
    recommended = {each["recommended"] for each in outcome["recommendations"]}
    notes = Notes()
    table = Table(
        "prompts-table",
        f"Candidates on {whole(outcome['n'])} validation rows with gold; p compares with the best, corrected"
        " for all pairs; the advice compares with the configured one alone",
        COLUMNS,
        tuple(candidate_cells(entry, notes) for entry in entries),
        tuple(notes.reasons),
        frozenset(place for place, entry in enumerate(entries) if entry["name"] in recommended),
    )
    return Section("prompts", "Prompts", tuple(said), _figures(entries), (table,))


def candidate_cells(entry: Mapping[str, Any], notes: Notes | None = None) -> tuple[Cell, ...]:
    """One candidate's row under `COLUMNS`."""
    notes = notes or Notes()
    best = entry["against_best"] or {}
    against, tokens = read_estimate({**best, "value": best.get("difference")}), finite(entry["tokens_per_row"])
    p = best.get("p_adjusted")
    return (
        Cell(entry["name"], tag="configured" if entry["configured"] else ""),
        notes.share(read_estimate(entry["accuracy"])),
        notes.share(read_estimate(entry["balanced_accuracy"])),
        Cell(whole(entry["unparsable"]), f"{whole(entry['truncated'])} truncated"),
        notes.shown(MISSING if tokens is None else f"{tokens:,.1f}", WHY_MISSING),
        notes.shown(rate(finite(entry["rows_per_second"])), WHY_MISSING),
        Cell(points(against.value), points_interval(against.low, against.high)),
        Cell(p_value(p)),
        Cell(entry["verdict"]),
    )


def _figures(entries: list[Mapping[str, Any]]) -> tuple[Figure, ...]:
    dots = [Dot(each["name"], read_estimate(each["accuracy"]), each["verdict"] == WORSE) for each in entries]
    dots = [dot for dot in dots if dot.estimate.value is not None]
    if not dots:
        return ()
    span = (min(dot.ends[0] for dot in dots), max(dot.ends[1] for dot in dots))
    title = "Accuracy of the candidates"
    caption = "On validation rows, with 95 % intervals. Hollow: worse than the best."
    return (Figure(interval_chart("prompts-chart", title, dots, span), title, caption),)
