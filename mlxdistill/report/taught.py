"""Which rows the student learned from: how many of each class, how many a teacher wrote, how often they came."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlxdistill.report.blocks import Cell, Column, Section, Table
from mlxdistill.report.numbers import percent, whole

MOST_LABELS_SHOWN = 20
BALANCES = {
    "weights": "Rows were weighed so that every class counts the same in the loss.",
    "upsample": "Rows of smaller classes were repeated, so that every class came as often as the largest.",
    "downsample": "Of larger classes each epoch had a part, so that every class came as often as the smallest.",
}


def taught_section(manifest: Mapping[str, Any], config: Mapping[str, Any]) -> Section | None:
    """None where the training did not count its rows by label.

    Args:
        config: with the section `train`.
    """
    figures = ((manifest.get("stages") or {}).get("train") or {}).get("figures") or {}
    counts: Mapping[str, Mapping[str, int]] = figures.get("label_counts") or {}
    if not counts:
        return None
    rows = sum(count["rows"] for count in counts.values())
    written = sum(count["synthetic"] for count in counts.values())
    share = "none of them synthetic"
    if written:
        share = (
            f"{whole(written)} of them ({percent(written / rows)}) synthetic: written by the teacher, in no other set"
        )
    said = [f"The student learned from {whole(rows)} rows, {share}."]
    balance = BALANCES.get((config.get("train") or {}).get("class_balance") or "")
    if balance:
        said.append(balance)
    columns = (Column("Label", numeric=False), Column("Rows"), Column("Of them synthetic"), Column("Rows an epoch"))
    cells = tuple(
        (Cell(label), Cell(whole(count["rows"])), Cell(whole(count["synthetic"])), Cell(whole(count["per_epoch"])))
        for label, count in counts.items()
    )
    table = Table("taught-table", "Rows by the label that they teach", columns, cells)
    if len(cells) > MOST_LABELS_SHOWN:
        return Section("taught", "Training rows", tuple(said), folded_title="By label", folded=(table,))
    return Section("taught", "Training rows", tuple(said), tables=(table,))
