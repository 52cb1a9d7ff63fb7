"""Rows that the teacher wrote (`mlxdistill synth`), for the stages that use them.

They are asked about, filtered and trained on beside the pool's rows, and stand in no other set. What keeps them from
measuring anything is checked here each time, not only when they were written: test rows may have been drawn anew since.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlxdistill.pipeline.budget import measuring_rows
from mlxdistill.rundir.files import file_sha256
from mlxdistill.rundir.layout import RunDir
from mlxdistill.tasks.rows import Row, iter_rows, normalised
from mlxdistill.text.nearest import nearest

NEAR = 0.8  # Jaccard similarity of runs of five characters


def synthetic_rows(run: RunDir) -> Iterator[Row]:
    """Those that were accepted, one at a time."""
    if run.synthetic.exists():
        yield from iter_rows(run.synthetic)


def is_synthetic(row: Row) -> bool:
    return row.meta.get("synthetic") is True


def synthetic_inputs(run: RunDir) -> Mapping[str, Any]:
    """What a stage depends on besides; nothing where no row was ever written."""
    return {"synthetic": file_sha256(run.synthetic)} if run.synthetic.exists() else {}


def tainted_rows(run: RunDir, near: float | None) -> frozenset[str]:
    """Ids of the synthetic rows that were written from a validation or test row, or read nearly like one.

    Args:
        near: the similarity at which the user's own rows are kept apart (`data.near_duplicates`).
    """
    rows = list(synthetic_rows(run))
    if not rows:
        return frozenset()
    measuring = {row.id for row in measuring_rows(run)}
    texts = (normalised(row.text) for row in measuring_rows(run))
    found = nearest([normalised(row.text) for row in rows], texts)
    return frozenset(
        row.id
        for row, similarity in zip(rows, found, strict=True)
        if similarity >= min(NEAR, near or NEAR) or not measuring.isdisjoint(row.meta.get("seeds", ()))
    )
