"""What is known of the teachers: how far each can be relied on, and what each way of putting answers right did.

All of it is measured on validation rows with gold, or without gold; the test sets are not used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlxdistill.report.blocks import Cell, Column, Notes, Section, Table
from mlxdistill.report.numbers import (
    MISSING,
    finite,
    percent,
    points,
    points_interval,
    rate,
    read_estimate,
    size,
    whole,
)

STEPS = {
    "content_free": "Content-free correction",
    "label_orders": "Average over label orders",
    "samples": "Vote over samples",
    "temperature": "Temperature",
    "combination": "Combination",
}
MOST_LABELS_DRAWN = 12
NO_GOLD = "no validation row with gold was answered"
NO_LABEL = "it named no label"
NO_PROBABILITIES = "needs class probabilities"
NOT_TIMED = "not measured: recorded answers, or answers that were in the store"


def teachers_section(manifest: Mapping[str, Any]) -> Section | None:
    """None for a single teacher whose answers were used as they came."""
    figures = ((manifest.get("stages") or {}).get("label") or {}).get("figures") or {}
    teachers, effects = figures.get("teachers") or {}, figures.get("effects") or []
    if not teachers and not effects:
        return None
    text = (
        "Measured on validation rows with gold; the test sets were not looked at, and nothing was switched on because "
        "of these numbers. Brackets hold 95 % intervals."
    )
    tables = [_reliability_table(teachers)] if teachers else []
    tables += [_effects_table(effects)] if effects else []
    believed = {name: entry["dawid_skene"] for name, entry in teachers.items() if entry.get("dawid_skene")}
    folded = [
        _belief_table(name, entry, f"teacher-belief-{place}") for place, (name, entry) in enumerate(believed.items())
    ]
    title = "What Dawid and Skene’s model believes of each teacher"
    return Section("teachers", "Teachers", (text,), (), tuple(tables), title, tuple(folded))


def _reliability_table(teachers: Mapping[str, Any]) -> Table:
    notes = Notes()
    modelled = any(entry.get("dawid_skene") for entry in teachers.values())
    names = ["Teacher", "Rows answered", "Unparsable", "Agrees with the combination", "Right", "Rows with gold"]
    names += ["Right, by the model"] if modelled else []
    columns = tuple(Column(name, numeric=place > 0) for place, name in enumerate([*names, "Rows/s", "Peak memory"]))
    rows = []
    for name, entry in teachers.items():
        scored = entry.get("validation") or {}
        believed = finite((entry.get("dawid_skene") or {}).get("accuracy"))
        rows.append(
            (
                Cell(name),
                Cell(whole(entry.get("answers"))),
                Cell(whole(entry.get("unparsable"))),
                notes.share(read_estimate(entry.get("agreement"), reason=NO_LABEL)),
                notes.share(read_estimate(scored.get("accuracy"), reason=NO_GOLD)),
                Cell(whole(scored.get("n"))),
                *([notes.shown(percent(believed), NO_LABEL)] if modelled else []),
                notes.shown(rate(finite(entry.get("rows_per_second"))), NOT_TIMED),
                notes.shown(size(finite(entry.get("peak_memory_bytes")) or None), NOT_TIMED),
            )
        )
    return Table("teachers-table", "How far each teacher can be relied on", columns, tuple(rows), tuple(notes.reasons))


def _effects_table(effects: Sequence[Mapping[str, Any]]) -> Table:
    notes = Notes()
    columns = (
        Column("Step", numeric=False),
        Column("Accuracy before"),
        Column("Accuracy after"),
        Column("Difference"),
        Column("ECE before"),
        Column("ECE after"),
        Column("Rows"),
    )
    caption = "What each step did, in the order they were taken; the difference in percentage points"
    return Table(
        "effects-table", caption, columns, tuple(_effect(entry, notes) for entry in effects), tuple(notes.reasons)
    )


def _effect(entry: Mapping[str, Any], notes: Notes) -> tuple[Cell, ...]:
    before, after = entry.get("before") or {}, entry.get("after") or {}
    difference = read_estimate(entry.get("difference"), reason=NO_GOLD)
    shown = Cell(points(difference.value), points_interval(difference.low, difference.high))
    step, details = str(entry.get("step")), [str(entry.get("teacher") or "")]
    if (temperature := finite(entry.get("temperature"))) is not None:
        details.append(f"T = {temperature:.2f}, fitted on the other half of the validation rows")
    if entry.get("against"):
        details.append(f"before: {entry['against']}, the best of them on these rows")
    return (
        Cell(STEPS.get(step, step), "; ".join(filter(None, details))),
        notes.share(read_estimate(before.get("accuracy"), reason=NO_GOLD)),
        notes.share(read_estimate(after.get("accuracy"), reason=NO_GOLD)),
        shown if difference.value is not None else notes.shown(MISSING, difference.reason),
        *(notes.shown(percent(read_estimate(side.get("ece")).value), NO_PROBABILITIES) for side in (before, after)),
        Cell(whole(entry.get("n"))),
    )


def _belief_table(name: str, entry: Mapping[str, Any], key: str) -> Table:
    """The teacher's confusion matrix; with many labels, how often it names each when it is the right one."""
    labels = list(entry.get("recall") or {})
    confusion = entry.get("confusion")
    if confusion and len(labels) <= MOST_LABELS_DRAWN:
        columns = (Column("Right label", False), *(Column(label) for label in labels))
        rows = tuple(
            (Cell(label), *(Cell(percent(finite(share))) for share in row))
            for label, row in zip(labels, confusion, strict=True)
        )
        return Table(key, f"{name}: how often it answers what, by the right label", columns, rows)
    columns = (Column("Right label", False), Column("Answered so"))
    rows = tuple((Cell(label), Cell(percent(finite(share)))) for label, share in entry["recall"].items())
    return Table(key, f"{name}: how often it answers the right label", columns, rows)
