"""filter: which of the teacher's answers may teach."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from mlxdistill.config.models import Config
from mlxdistill.filters.candidate import Candidate, Filter
from mlxdistill.filters.funnel import dropped_rows, filters_of, funnel, run_filters
from mlxdistill.filters.held_out import HeldOut
from mlxdistill.filters.in_budget import InBudget
from mlxdistill.pipeline.asking import key_of
from mlxdistill.pipeline.budget import choice_in_force
from mlxdistill.pipeline.filter_notes import check_some_left, eaten, unheeded, unjudged
from mlxdistill.pipeline.judging import Judging, judge_inputs, judge_of
from mlxdistill.pipeline.noise import noise_filters, noise_inputs
from mlxdistill.pipeline.stage import Context, Need, Result, Stage
from mlxdistill.pipeline.synthetic import synthetic_rows, tainted_rows
from mlxdistill.pipeline.training_labels import people_inputs, person_labels, training_answers
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.manifest import Work
from mlxdistill.store import LabelStore
from mlxdistill.tasks.rows import read_rows
from mlxdistill.teacher.labeller import check_teacher


def _inputs(context: Context) -> Mapping[str, Any]:
    return {
        "labels": context.inputs_of("label"),
        "filter": context.config.filter.model_dump(mode="json"),
        **people_inputs(context.run, ("pool", "synthetic")),
        **judge_inputs(context),
        **noise_inputs(context),
    }


def _work(context: Context) -> Result:
    rows = [*read_rows(context.run.pool), *synthetic_rows(context.run)]
    with LabelStore(context.run.labels) as store, _judging(context, store) as judging:
        answers = training_answers(context, store, rows)
        people = person_labels(store, rows, context.task.names)
        candidates = [Candidate(row, answers.get(row.id), row.id in people) for row in rows]
        learned: list[Filter] = [*noise_filters(context), *([judging.judge()] if judging else [])]
        filters: list[Filter] = [_held_out(context), *_in_budget(context), *filters_of(context.config.filter, learned)]
        decisions = run_filters(filters, candidates)
        store.add_filtering(decisions)
    steps = funnel(decisions, {row_id: answer.label for row_id, answer in answers.items()})
    kept = len(rows) - len(dropped_rows(decisions))
    notes = [*unheeded(context.config.filter, answers.values()), *unjudged(decisions), *eaten(steps)]
    for note in notes:
        context.reporter.note(note)
    check_some_left(steps, len(rows), kept, str(context.run.labels))
    figures: dict[str, Any] = {"funnel": [asdict(step) for step in steps], "filter_notes": notes}
    if judging:
        figures["judge"] = judging.figures
        figures["filter_notes"] = [*judging.notes, *notes]
    dropped = ", ".join(f"{sum(step.dropped.values()):,} by {step.filter}" for step in steps if step.dropped)
    treated = ", ".join(f"{count:,} {kind} by {step.filter}" for step in steps for kind, count in step.treated.items())
    what = "; ".join([f"dropped: {dropped}"] * bool(dropped) + [f"treated: {treated}"] * bool(treated))
    line = f"{kept:,} of {len(rows):,} rows may teach" + (f" ({what})" if what else "")
    return Result((), Work(rows_in=len(rows), rows_out=kept), figures, line)


def _judging(context: Context, store: LabelStore) -> contextlib.AbstractContextManager[Judging | None]:
    return contextlib.nullcontext() if context.config.filter.judge is None else Judging(context, store)


def _held_out(context: Context) -> HeldOut:
    rows = [row for path in context.run.test_sets.values() if path.exists() for row in read_rows(path)]
    groups = frozenset(row.meta["group"] for row in rows if row.meta.get("group") is not None)
    components = frozenset(row.meta["component"] for row in rows if "component" in row.meta)
    until = min((row.meta["time"] for row in rows if "time" in row.meta), default=None)
    tainted = tainted_rows(context.run, context.config.data.near_duplicates)
    return HeldOut(frozenset(row.id for row in rows), groups, tainted, components, until)


def _in_budget(context: Context) -> list[Filter]:
    choice = choice_in_force(context.run)
    if choice is None:
        return []
    return [InBudget(frozenset(choice.ids), frozenset(row.id for row in synthetic_rows(context.run)))]


def _has_decisions(run: RunDir) -> bool:
    if not run.labels.exists():
        return False
    with LabelStore(run.labels) as store:
        return next(store.decisions(), None) is not None


def _needs(config: Config) -> Iterator[Need]:
    if config.filter.judge is not None:
        name, teacher = judge_of(config)
        assert teacher.model is not None
        yield Need((*key_of(config, name), "model"), partial(check_teacher, teacher.model, thinking=False))


STAGE = Stage("filter", _needs, _inputs, _work, is_kept=_has_decisions)
