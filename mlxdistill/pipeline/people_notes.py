"""What must be said of scores on test rows that people labelled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mlxdistill.store import LabelStore
from mlxdistill.tasks.rows import Row

IN_RANDOM_ORDER = ("no_gold",)  # why a row was asked about, where nothing but chance chose it


def people_notes(store: LabelStore, sets: Mapping[str, Sequence[Row]]) -> Iterator[str]:
    """One line for each thing that a reader of the scores should know.

    Args:
        sets: with people's labels (`training_labels.with_people`).
    """
    people = store.people()
    for name, rows in sets.items():
        given = [row.id for row in rows if row.meta.get("gold_by") == "person"]
        golden = sum(row.gold is not None for row in rows)
        if given and golden < len(rows):
            yield (
                f"{name}: {golden:,} of {len(rows):,} rows have gold, {len(given):,} of them by people; the others are"
                f" left out (mlxdistill review --set {name})"
            )
            picked = sum(people[row_id].why != IN_RANDOM_ORDER for row_id in given)
            if picked:
                yield (
                    f"{name}: {picked:,} of {len(given):,} labels by people are of rows chosen for being doubtful;"
                    " until all rows have gold, scores on them do not stand for the whole set"
                )
        disputed = sum("disputed" in row.meta for row in rows)
        if disputed:
            yield f"{name}: people disagree with the gold of {disputed:,} of {len(rows):,} rows; the gold counts"
