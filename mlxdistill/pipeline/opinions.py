"""One opinion of a teacher about each row, made of the answers it gave.

Raw answers stay as they are. What is made of them (`teacher/opinions.py`) is kept under a labeller of its own, and made
anew as a whole whenever labelling runs, which costs seconds. Rows pass by in pages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlxdistill.config.models import TeacherConfig
from mlxdistill.pipeline.asking import CONTENT_FREE_ROWS, Asked
from mlxdistill.pipeline.stage import Context
from mlxdistill.store import LabelStore
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row, canonical_json, content_hash
from mlxdistill.teacher.correction import FEWEST_ROWS, fit_temperature
from mlxdistill.teacher.effects import GoldRows, step_effects
from mlxdistill.teacher.opinions import (
    TEMPERATURE,
    AnswersById,
    Rule,
    answers_from,
    content_free_shares,
    opinions_of,
)
from mlxdistill.teacher.votes import Opinions

Hashes = Mapping[str, str]


def has_rule(teacher: TeacherConfig) -> bool:
    """Whether what the teacher thinks of a row is not just what it answered."""
    several = teacher.samples > 1 or teacher.label_orders > 1
    return several or teacher.calibrate is not None or teacher.scale_temperature


def rule_parameters(teacher: TeacherConfig) -> dict[str, Any]:
    """What its opinions depend on besides its answers."""
    return teacher.model_dump(mode="json", include={"samples", "label_orders", "calibrate", "scale_temperature"})


def one_opinion(
    context: Context, store: LabelStore, teacher: Asked, gold: GoldRows
) -> tuple[int, list[dict[str, Any]]]:
    """The labeller's number of the teacher's opinions, and the effect of each step that made them.

    The rows are those on the store's list (`LabelStore.ask`).
    """
    names = context.task.names
    if not has_rule(teacher.config):
        return teacher.number, []
    known = _raw(store, teacher, teacher.number, hashes_of(gold.rows), names)
    rule = _rule(context, store, teacher, known, gold)
    if rule == Rule(rule.samples[:1], rule.votes):
        return teacher.number, []
    effects = step_effects(rule.steps(known), gold) if gold.rows else []
    for entry in effects:
        if entry["step"] == TEMPERATURE:
            entry["temperature"] = rule.temperature

    def waves() -> Iterator[tuple[list[Answer], Hashes]]:
        for page in store.asked_rows():
            given, ids = _by_sample(store, teacher, teacher.number, page), list(page)
            steps = rule.steps([opinions_of(ids, answers, names) for answers in given])
            yield answers_from(ids, list(steps.values())[-1], given, names), page

    parameters = [rule_parameters(teacher.config), rule.samples]
    number = labeller_of(context, store, f"{teacher.name}: one opinion a row", parameters, {teacher.number: teacher})
    store.replace(number, waves())
    return number, effects


def labeller_of(
    context: Context, store: LabelStore, name: str, parameters: Sequence[Any], members: Mapping[int, Asked]
) -> int:
    """The number under which answers made of others are kept.

    Args:
        name, parameters: of the rule.
        members: by their number, those whose answers they are made of.
    """
    teachers = [[number, teacher.fingerprint] for number, teacher in members.items()]
    prompts = [teacher.prompt_fingerprint for teacher in members.values()]
    return store.labeller(
        content_hash(canonical_json([*parameters, teachers])),
        content_hash(canonical_json(prompts)),
        context.task.names,
        {"name": name, "made_of": list(members)},
    )


def hashes_of(rows: Sequence[Row]) -> dict[str, str]:
    return {row.id: content_hash(row.text) for row in rows}


def _rule(context: Context, store: LabelStore, teacher: Asked, known: Sequence[Opinions], gold: GoldRows) -> Rule:
    rule = Rule(teacher.samples, votes=teacher.config.answer == "generate")
    if teacher.content_free is not None:
        free = _raw(store, teacher, teacher.content_free, hashes_of(CONTENT_FREE_ROWS), context.task.names)
        rule = replace(rule, content_free=tuple(content_free_shares(opinions) for opinions in free))
    if not teacher.config.scale_temperature:
        return rule
    opinions = rule.unscaled(list(rule.steps(known).values())[-1])
    usable = gold.calibration & opinions.graded
    count = int(usable.sum())
    if count < FEWEST_ROWS:
        context.reporter.note(
            f"{teacher.name}: no temperature was fitted: {count} validation rows of the half for calibration have gold"
            f" and class probabilities, and it takes {FEWEST_ROWS}"
        )
        return rule
    return replace(rule, temperature=fit_temperature(opinions.shares[usable], gold.places[usable]))


def _by_sample(store: LabelStore, teacher: Asked, number: int, hashes: Hashes) -> list[AnswersById]:
    found: dict[int, dict[str, Answer]] = {sample: {} for sample in teacher.samples}
    for answer in store.answers(number, hashes, teacher.samples):
        found[answer.sample][answer.row_id] = answer
    return list(found.values())


def _raw(store: LabelStore, teacher: Asked, number: int, hashes: Hashes, names: Sequence[str]) -> list[Opinions]:
    """For each sample, the teacher's answers to these rows, kept under this number, as opinions."""
    return [opinions_of(list(hashes), answers, names) for answers in _by_sample(store, teacher, number, hashes)]
