"""The present teacher's answers, for the stages after labelling."""

from __future__ import annotations

from collections.abc import Sequence

from mlxdistill.pipeline.stage import Context
from mlxdistill.store import LabelStore
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row, content_hash
from mlxdistill.teacher.label import answers_of


def teacher_answers(context: Context, store: LabelStore, rows: Sequence[Row]) -> dict[str, Answer]:
    """Row id -> the answer of the teacher that the last `label` asked, for the rows it answered as they now read."""
    hashes = {row.id: content_hash(row.text) for row in rows}
    return answers_of(store, context.manifest.figures("label")["labeller"], hashes)
