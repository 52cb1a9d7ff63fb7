"""Which labels are taken for which: confusion matrices, their worst pairs, and the scores of each label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlxdistill.report.blocks import Cell, Column, Figure, Notes, Section, Table
from mlxdistill.report.numbers import MISSING, percent, read_estimate, whole
from mlxdistill.report.svg import heatmap
from mlxdistill.report.systems import is_baseline, ordered_systems, set_scores, system_name, without_gold

MOST_LABELS_DRAWN = 12
MOST_PAIRS = 15
UNPARSABLE = "unparsable"


def confusion_section(metrics: Mapping[str, Any]) -> Section:
    """Matrices of the student and the teachers as charts; those of the baselines as folded tables."""
    labels = [str(label) for label in metrics.get("labels") or ()]
    figures: list[Figure] = []
    tables: list[Table] = []
    folded: list[Table] = []
    for set_index, test_set in enumerate(metrics.get("sets") or {}):
        for index, system in enumerate(ordered_systems(metrics)):
            counts = matrix(set_scores(metrics, system, test_set).get("confusion"), len(labels))
            if counts is None:
                continue
            key, title = f"confusion-{set_index}-{index}", f"{system_name(system)} on {test_set}"
            if len(labels) > MOST_LABELS_DRAWN:
                (folded if is_baseline(system) else tables).append(_pairs_table(key, title, labels, counts))
            elif is_baseline(system):
                folded.append(_matrix_table(key, title, labels, counts))
            else:
                figures.append(_matrix_figure(key, title, labels, counts))
        scores = _label_table(metrics, test_set, labels, f"labels-{set_index}")
        if scores is not None:
            (folded if len(labels) > MOST_LABELS_DRAWN else tables).append(scores)
    if not (figures or tables or folded):
        reason = (
            "Without gold there is no confusion matrix."
            if without_gold(metrics)
            else "No confusion matrix was recorded."
        )
        return Section("confusion", "Labels and confusions", (reason,))
    text = "Rows are gold labels, columns what the system answered; shading is the share of the row."
    if len(labels) > MOST_LABELS_DRAWN:
        text = (
            f"With {len(labels)} labels, the pairs confused most often are listed; predictions.jsonl holds all of them."
        )
    return Section(
        "confusion",
        "Labels and confusions",
        (text,),
        tuple(figures),
        tuple(tables),
        "Baselines and further tables",
        tuple(folded),
    )


def matrix(raw: Any, labels: int) -> list[list[int]] | None:
    """Counts of gold (rows) by answer (columns, the last one unparsable); None where there is no such matrix."""
    if not isinstance(raw, Sequence) or isinstance(raw, str) or len(raw) != labels or not labels:
        return None
    rows = [
        list(row) + [0] * (labels + 1 - len(row))
        for row in raw
        if isinstance(row, Sequence) and not isinstance(row, str)
    ]
    if len(rows) != labels or any(
        len(row) != labels + 1 or not all(isinstance(count, int) for count in row) for row in rows
    ):
        return None
    return rows


def worst_pairs(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> list[tuple[str, str, int, int]]:
    """(gold, answer, count, rows of that gold) of every confusion that happened, most frequent first."""
    names = [*labels, UNPARSABLE]
    pairs = [
        (labels[down], names[across], count, sum(row))
        for down, row in enumerate(counts)
        for across, count in enumerate(row)
        if count and across != down
    ]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[3], pair[0], pair[1]))


def _matrix_figure(key: str, title: str, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Figure:
    unparsable = any(row[-1] for row in counts)
    columns = [*labels, UNPARSABLE] if unparsable else list(labels)
    drawn = [row if unparsable else row[:-1] for row in counts]
    drawing = heatmap(key, title, labels, columns, drawn)
    caption = "" if unparsable else "No answer was unparsable."
    return Figure(drawing, title, caption, _matrix_table(f"{key}-table", title, labels, counts), wide=len(columns) > 6)


def _matrix_table(key: str, title: str, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Table:
    columns = (Column("Gold", False), *(Column(name) for name in (*labels, UNPARSABLE)))
    rows = tuple(
        (Cell(label), *(Cell(whole(count)) for count in row)) for label, row in zip(labels, counts, strict=True)
    )
    return Table(key, f"{title}: gold in rows, answers in columns", columns, rows)


def _pairs_table(key: str, title: str, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Table:
    pairs = worst_pairs(labels, counts)
    rows = tuple(
        (Cell(gold), Cell(answer), Cell(f"{whole(count)}/{whole(total)}"), Cell(percent(count / total)))
        for gold, answer, count, total in pairs[:MOST_PAIRS]
    )
    shown = (
        f"the {MOST_PAIRS} worst of {whole(len(pairs))} confused pairs"
        if len(pairs) > MOST_PAIRS
        else "every confused pair"
    )
    columns = (Column("Gold", False), Column("Answered", False), Column("Rows"), Column("Share of the gold label"))
    return Table(key, f"{title}: {shown if pairs else 'no label was confused with another'}", columns, rows)


def _label_table(metrics: Mapping[str, Any], test_set: str, labels: Sequence[str], key: str) -> Table | None:
    """Precision, recall and F1 of each label, for the student and the teachers."""
    notes = Notes()
    systems = [
        system
        for system in ordered_systems(metrics)
        if not is_baseline(system) and isinstance(set_scores(metrics, system, test_set).get("per_class"), Mapping)
    ]
    if not systems or not labels:
        return None
    rows = []
    for label in labels:
        cells, support = [], MISSING
        for system in systems:
            facts = set_scores(metrics, system, test_set)["per_class"].get(label) or {}
            support = whole(read_estimate(facts.get("support")).value) if support == MISSING else support
            cells += [
                notes.share(read_estimate(facts.get(name), reason=facts.get("reason")))
                for name in ("precision", "recall", "f1")
            ]
        rows.append((Cell(label), Cell(support), *cells))
    names = [f"{system_name(system)}: {name}" for system in systems for name in ("precision", "recall", "F1")]
    columns = (Column("Label", False), Column("Gold rows"), *(Column(name) for name in names))
    return Table(key, f"Each label on {test_set}", columns, tuple(rows), tuple(notes.reasons))
