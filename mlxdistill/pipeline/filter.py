"""filter: which of the teacher's answers may teach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mlxdistill.filters.candidate import Candidate, Filter
from mlxdistill.filters.funnel import dropped_rows, filters_of, funnel, run_filters
from mlxdistill.filters.held_out import HeldOut
from mlxdistill.filters.in_budget import InBudget
from mlxdistill.pipeline.answers import teacher_answers
from mlxdistill.pipeline.budget import choice_in_force
from mlxdistill.pipeline.stage import Context, Result, Stage, no_needs
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.manifest import Work
from mlxdistill.store import LabelStore
from mlxdistill.tasks.rows import read_rows


def _inputs(context: Context) -> Mapping[str, Any]:
    return {"labels": context.inputs_of("label"), "filter": context.config.filter.model_dump(mode="json")}


def _work(context: Context) -> Result:
    rows = read_rows(context.run.pool)
    with LabelStore(context.run.labels) as store:
        answers = teacher_answers(context, store, rows)
        candidates = [Candidate(row, answers.get(row.id)) for row in rows]
        filters: list[Filter] = [_held_out(context), *_in_budget(context), *filters_of(context.config.filter)]
        decisions = run_filters(filters, candidates)
        store.add_filtering(decisions)
    if context.config.filter.min_confidence is not None:
        unsaid = sum(answer.label is not None and answer.probabilities is None for answer in answers.values())
        if unsaid:
            context.reporter.note(
                f"{unsaid:,} answers have no probabilities: filter.min_confidence does not touch them"
            )
    steps = funnel(decisions)
    kept = len(rows) - len(dropped_rows(decisions))
    figures = {"funnel": [asdict(step) for step in steps]}
    dropped = ", ".join(f"{sum(step.dropped.values()):,} by {step.filter}" for step in steps if step.dropped)
    line = f"{kept:,} of {len(rows):,} rows may teach" + (f" (dropped: {dropped})" if dropped else "")
    return Result((), Work(rows_in=len(rows), rows_out=kept), figures, line)


def _held_out(context: Context) -> HeldOut:
    rows = [row for path in context.run.test_sets.values() if path.exists() for row in read_rows(path)]
    groups = frozenset(row.meta["group"] for row in rows if row.meta.get("group") is not None)
    return HeldOut(frozenset(row.id for row in rows), groups)


def _in_budget(context: Context) -> list[Filter]:
    choice = choice_in_force(context.run)
    return [] if choice is None else [InBudget(frozenset(choice.ids))]


def _has_decisions(run: RunDir) -> bool:
    if not run.labels.exists():
        return False
    with LabelStore(run.labels) as store:
        return next(store.decisions(), None) is not None


STAGE = Stage("filter", no_needs, _inputs, _work, is_kept=_has_decisions)
