"""The teachers' answers, for the stages after labelling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlxdistill.pipeline.stage import Context
from mlxdistill.store import LabelStore
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row, content_hash
from mlxdistill.teacher.label import answers_of


def teacher_answers(
    context: Context, store: LabelStore, rows: Sequence[Row], name: str | None = None
) -> dict[str, Answer]:
    """Row id -> the answer that the last `label` came to, for the rows that it answered as they now read.

    Args:
        name: of one of several teachers, for its own opinion; default: what they came to together.
    """
    figures = context.manifest.figures("label")
    number = figures["labeller"] if name is None else figures["teachers"][name]["labeller"]
    return answers_of(store, number, {row.id: content_hash(row.text) for row in rows})


def teacher_figures(context: Context) -> Mapping[str | None, Mapping[str, Any]]:
    """What `label` measured: of what it came to (None), and by its name of each of several teachers."""
    figures = context.manifest.figures("label")
    return {None: figures, **figures.get("teachers", {})}
