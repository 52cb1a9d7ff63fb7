"""filter: which of the teacher's answers may teach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mlxdistill.filters.candidate import Candidate
from mlxdistill.filters.funnel import dropped_rows, filters_of, funnel, run_filters
from mlxdistill.pipeline.answers import teacher_answers
from mlxdistill.pipeline.stage import Context, Result, Stage
from mlxdistill.store import LabelStore
from mlxdistill.tasks.rows import read_rows


def _inputs(context: Context) -> Mapping[str, Any]:
    return {"labels": context.inputs_of("label"), "filter": context.config.filter.model_dump(mode="json")}


def _work(context: Context) -> Result:
    rows = read_rows(context.run.pool)
    with LabelStore(context.run.labels) as store:
        answers = teacher_answers(context, store, rows)
        candidates = [Candidate(row, answers.get(row.id)) for row in rows]
        decisions = run_filters(filters_of(context.config.filter), candidates)
        store.replace_decisions(decisions)
    steps = funnel(decisions)
    kept = len(rows) - len(dropped_rows(decisions))
    figures = {"rows_in": len(rows), "rows_out": kept, "funnel": [asdict(step) for step in steps]}
    dropped = ", ".join(f"{sum(step.dropped.values()):,} by {step.filter}" for step in steps if step.dropped)
    return Result(
        (), figures, f"{kept:,} of {len(rows):,} rows may teach" + (f" (dropped: {dropped})" if dropped else "")
    )


STAGE = Stage("filter", lambda run: (run.pool, run.labels), _inputs, _work)
