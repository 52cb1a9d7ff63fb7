"""The student's mistakes, to be looked at by hand.

Rows are named by id; their text appears only where the caller gives it, because a report is made to be passed on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlxdistill.report.blocks import Cell, Column, Section, Table
from mlxdistill.report.data import Mistake
from mlxdistill.report.numbers import MISSING, finite, percent, whole
from mlxdistill.report.systems import without_gold

MOST_LISTED = 200  # of each test set, so that no run makes a page that a phone cannot open
MOST_CHARACTERS = 600
UNPARSABLE = "unparsable"


def mistakes_section(
    metrics: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]], mistakes: Sequence[Mistake]
) -> Section:
    """The mistakes by test set; without gold, the rows where student and teacher disagree."""
    gold = not without_gold(metrics)
    title = "Mistakes of the student" if gold else "Where student and teacher disagree"
    if not mistakes:
        return Section("mistakes", title, ("None are listed.",))
    totals = _totals(predictions, gold)
    tables = []
    for index, test_set in enumerate(dict.fromkeys([*(metrics.get("sets") or {}), *(each.set for each in mistakes)])):
        own = [mistake for mistake in mistakes if mistake.set == test_set]
        if own:
            total = max(totals.get(test_set, 0), len(own))
            tables.append(_table(f"mistakes-{index}", test_set, own, total, gold))
    note = "The probability is the one the student gave its own answer."
    if all(mistake.text is None for mistake in mistakes):
        note += " Rows are named by id only; report.show_text puts their text here."
    return Section("mistakes", title, (note,), tables=tuple(tables))


def _totals(predictions: Sequence[Mapping[str, Any]], gold: bool) -> dict[str, int]:
    """By test set, how many rows the student has wrong, or answers otherwise than the teacher."""
    answers: dict[tuple[str, str, str], Any] = {
        (str(record.get("set")), str(record.get("id")), str(record.get("system"))): record for record in predictions
    }
    totals: dict[str, int] = {}
    for (test_set, row, system), record in answers.items():
        if system != "student":
            continue
        teacher = answers.get((test_set, row, "teacher"))
        differs = teacher is not None and teacher.get("prediction") != record.get("prediction")
        if record.get("correct") is False if gold else differs:
            totals[test_set] = totals.get(test_set, 0) + 1
    return totals


def _table(key: str, test_set: str, mistakes: Sequence[Mistake], total: int, gold: bool) -> Table:
    texts = any(mistake.text is not None for mistake in mistakes)
    columns = [Column("Row", numeric=False)]
    columns += [Column("Text", numeric=False, long=True)] if texts else []
    columns += [Column(name, numeric=False) for name in (("Gold",) if gold else ()) + ("Student", "Teacher")]
    columns.append(Column("Probability"))
    rows = []
    for mistake in mistakes[:MOST_LISTED]:
        cells = [Cell(mistake.id)]
        cells += [Cell(MISSING if mistake.text is None else shortened(mistake.text))] if texts else []
        cells += [Cell(MISSING if mistake.gold is None else mistake.gold)] if gold else []
        cells.append(Cell(UNPARSABLE if mistake.student is None else mistake.student))
        cells.append(Cell(MISSING if mistake.teacher is None else mistake.teacher))
        cells.append(Cell(percent(finite(mistake.student_probability))))
        rows.append(tuple(cells))
    shown = f"{whole(len(rows))} of {whole(total)}" if len(rows) < total else whole(total)
    return Table(key, f"{test_set}: {shown} rows", tuple(columns), tuple(rows))


def shortened(text: str) -> str:
    """The beginning of a long text, and how much is missing."""
    if len(text) <= MOST_CHARACTERS:
        return text
    return f"{text[:MOST_CHARACTERS]}… ({whole(len(text) - MOST_CHARACTERS)} more characters)"
