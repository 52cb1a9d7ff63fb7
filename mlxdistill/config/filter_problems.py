"""Settings of `filter` that the rest of the configuration leaves nothing to do, or makes impossible."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

from mlxdistill.config.models import Config
from mlxdistill.config.problems import KeyPath, place_of
from mlxdistill.errors import Problem


def filter_problems(config: Config, origins: Mapping[KeyPath, str], fallback: str) -> list[Problem]:
    """All of them, each with its place."""
    return [
        Problem(place_of(key, origins) or fallback, message, hint)
        for key, message, hint in (*_rules(config), *_agreement(config), *_judge(config), *_softened(config))
    ]


_Found = Iterator[tuple[KeyPath, str, str]]


def _rules(config: Config) -> _Found:
    labels = list(config.task.labels)
    for number, rule in enumerate(config.filter.rules):
        for label in rule.only or ():
            if label not in labels:
                near = difflib.get_close_matches(label, labels, 1)
                hint = f"did you mean `{near[0]}`?" if near else f"the labels are: {', '.join(labels)}"
                message = f"`filter.rules.{number}.only` names {label!r}, which is no label of the task"
                yield ("filter", "rules", number, "only"), message, hint


def _agreement(config: Config) -> _Found:
    teachers = list(config.teachers.values())
    asked_once = len(teachers) == 1 and teachers[0].samples == 1 and teachers[0].label_orders == 1
    if config.filter.agreement is not None and asked_once:
        message = "`filter.agreement` means nothing: the only teacher answers each row once"
        hint = "leave it out; or set the teacher's `label_orders` or `samples`, or give several teachers"
        yield ("filter", "agreement"), message, hint


def _softened(config: Config) -> _Found:
    if config.filter.noise_action == "soften" and not config.train.soft_weight:
        message = "`filter.noise_action: soften` means nothing: `train.soft_weight` is 0, and labels alone are learned"
        yield ("filter", "noise_action"), message, "set train.soft_weight, for example 0.5; or choose another action"


def _judge(config: Config) -> _Found:
    judge = config.filter.judge
    if judge is None:
        return
    models = [name for name, teacher in config.teachers.items() if teacher.model is not None]
    hint = f"those with a model: {', '.join(models)}" if models else "leave it out, or give a teacher with a `model`"
    if judge.teacher is not None and judge.teacher not in config.teachers:
        yield ("filter", "judge", "teacher"), f"`filter.judge.teacher`: no teacher is called {judge.teacher!r}", hint
    elif not models or (judge.teacher is not None and judge.teacher not in models):
        key: KeyPath = ("filter", "judge") if judge.teacher is None else ("filter", "judge", "teacher")
        yield key, "`filter.judge` needs a teacher with a `model`: a `log` cannot be asked about labels", hint
