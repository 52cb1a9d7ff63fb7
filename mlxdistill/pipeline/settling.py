"""From what the teachers answered to the one answer a row that the later stages use."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlxdistill.config.models import Config
from mlxdistill.pipeline.asking import Asked, rows_asked
from mlxdistill.pipeline.combination import combine
from mlxdistill.pipeline.opinions import has_rule, hashes_of, one_opinion, rule_parameters
from mlxdistill.pipeline.stage import Context
from mlxdistill.pipeline.training_labels import with_people
from mlxdistill.statistics.written import decimal, signed
from mlxdistill.store import SETTLED, LabelStore
from mlxdistill.tasks.rows import iter_rows
from mlxdistill.teacher.effects import gold_rows
from mlxdistill.teacher.label import ROWS_PER_PIECE


@dataclass(frozen=True, slots=True)
class Settled:
    """Where the final answers are, and how they came about.

    Attributes:
        number: their labeller's, in the store.
        rows: how many rows have a label.
        numbers: by the teacher's name, the labeller of its own opinions.
        effects: what each step of the way did on validation rows with gold.
        reliabilities: by the teacher's name, of several: how far it can be relied on.
    """

    number: int
    rows: int
    numbers: Mapping[str, int]
    effects: Sequence[dict[str, Any]] = ()
    reliabilities: Mapping[str, dict[str, Any]] = field(default_factory=dict)


def settling_inputs(config: Config) -> dict[str, Any]:
    """What the final answers depend on besides those that were given; nothing where they are just these."""
    teachers = config.teachers
    if len(teachers) == 1 and not any(map(has_rule, teachers.values())):
        return {}
    rules = {name: rule_parameters(teacher) for name, teacher in teachers.items()}
    return {"rules": rules, **({"combine": config.combine} if len(teachers) > 1 else {})}


def settle(context: Context, store: LabelStore, teachers: Sequence[Asked]) -> Settled:
    """One opinion of each teacher about each row, and of several teachers one answer."""
    if not settling_inputs(context.config):
        (teacher,) = teachers
        rows = teacher.summary.rows - teacher.summary.missing - teacher.summary.unparsable
        return Settled(teacher.number, rows, {teacher.name: teacher.number})
    store.begin_asking()
    rows_left = rows_asked(context.run)
    while piece := list(itertools.islice(rows_left, ROWS_PER_PIECE)):
        store.ask(hashes_of(piece))
    config = context.config.evaluate
    valid = with_people(store, list(iter_rows(context.run.valid)), context.task.names)
    gold = gold_rows(valid, context.task.names, resamples=config.bootstrap, seed=config.seed)
    if not gold.rows:
        context.reporter.note("no validation row has gold: what the teachers' settings do to accuracy is not measured")
    numbers: dict[str, int] = {}
    effects: list[dict[str, Any]] = []
    for teacher in teachers:
        numbers[teacher.name], found = one_opinion(context, store, teacher, gold)
        effects += [{"teacher": teacher.name, **entry} for entry in found]
    number = numbers[teachers[0].name]
    reliabilities: dict[str, dict[str, Any]] = {}
    if len(teachers) > 1:
        number, reliabilities, combined = combine(context, store, teachers, list(numbers.values()), gold)
        effects += [combined] if combined else []
    return Settled(number, _labelled(store, number), numbers, effects, reliabilities)


def _labelled(store: LabelStore, number: int) -> int:
    pages = (store.answers(number, page, SETTLED) for page in store.asked_rows())
    return sum(answer.label is not None for page in pages for answer in page)


def settling_lines(settled: Settled) -> Iterator[str]:
    """What the user should know of it: how far each teacher can be relied on, and what each step did."""
    if settled.reliabilities:
        yield "; ".join(_reliability(name, entry) for name, entry in settled.reliabilities.items())
    for entry in settled.effects:
        yield _effect(entry)


def _reliability(name: str, entry: Mapping[str, Any]) -> str:
    shared, scored = entry["agreement"], entry["validation"]
    said = f"{name} agrees with the combination on {_share(shared)}" if shared else f"{name} named no label"
    if scored["accuracy"]:
        said += f" and is right on {_share(scored['accuracy'])} of {scored['n']:,} validation rows with gold"
    return said


def _effect(entry: Mapping[str, Any]) -> str:
    if not entry["n"]:
        return f"{entry['step']}: no validation row with gold was answered, so its effect is not measured"
    before, after, difference = entry["before"], entry["after"], entry["difference"]
    whose = entry["teacher"] or f"against {entry['against']} alone"
    said = f"{entry['step']}, {whose}: "
    said += f"accuracy {_percent(before['accuracy'])} to {_percent(after['accuracy'])}"
    said += f", {signed(100 * difference['value'])} points"
    if difference["ci"]:
        low, high = (signed(100 * end) for end in difference["ci"])
        said += f" ({low} to {high})"
    if after["ece"]:
        said += f"; ECE {_percent(before['ece']) if before['ece'] else 'unknown'} to {_percent(after['ece'])}"
    return f"{said}; {entry['n']:,} validation rows with gold"


def _share(estimate: Mapping[str, Any]) -> str:
    ends = estimate["ci"]
    interval = f" ({decimal(100 * ends[0])} to {decimal(100 * ends[1])})" if ends else ""
    return f"{_percent(estimate)}{interval}"


def _percent(estimate: Mapping[str, Any]) -> str:
    return f"{decimal(100 * estimate['value'])} %"
