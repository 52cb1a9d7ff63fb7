"""Which ways of asking are compared: every prompt with every temperature and kind of answer, for every teacher.

The configuration's own way is always among them, and first of its teacher's: it is what the others have to beat.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mlxdistill.config.models import OF_GENERATED, OF_SCORES, Config, TeacherConfig
from mlxdistill.errors import ConfigError, Problem, UsageError
from mlxdistill.pipeline.asking import key_of
from mlxdistill.pipeline.stage import prompt_template
from mlxdistill.tasks.classification import TEACHER_PROMPT, read_template

OWN_PROMPT = "default"
SEPARATOR = " · "

AnswerKind = Literal["score", "generate"]


@dataclass(frozen=True, slots=True)
class Axes:
    """What the user wants compared besides what is configured. Empty: what the configuration says."""

    prompts: tuple[Path, ...] = ()
    temperatures: tuple[float, ...] = ()
    answers: tuple[AnswerKind, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way of asking one teacher.

    Attributes:
        name: tells it from the others: only what differs between them is in it.
        teacher: the teacher's name in the configuration.
        prompt: `default` for the configured one, else the file's name; None for a recorded teacher, which has none.
        file: the prompt's file as it was given; None for the configured one.
        template: the prompt's text; None: the task's own.
        configured: the configuration asks this teacher so.
    """

    name: str
    teacher: str
    prompt: str | None
    file: str | None
    template: str | None
    config: TeacherConfig
    configured: bool

    @property
    def temperature(self) -> float | None:
        """Of generated answers."""
        return self.config.temperature if self.config.log is None and self.config.answer == "generate" else None


@dataclass(frozen=True, slots=True)
class _Prompt:
    name: str
    file: str | None
    template: str | None


def candidates(config: Config, axes: Axes) -> tuple[list[Candidate], list[str]]:
    """The candidates, teacher by teacher, and notes on what was asked for and makes none.

    Raises ConfigError for a prompt file that cannot be used, UsageError where temperatures are given and no candidate
    generates, or a combination cannot be asked.
    """
    if not all(map(math.isfinite, axes.temperatures)):
        raise UsageError("a temperature is a finite number", where="--temperature", hint="for example 0.7")
    notes: list[str] = []
    found: list[Candidate] = []
    given = _given_prompts(axes.prompts)
    for name, teacher in config.teachers.items():
        if teacher.log is not None:
            if axes != Axes():
                notes.append(f"{name} is recorded: its answers are compared as they are")
            found.append(Candidate("", name, None, None, None, teacher, True))
            continue
        key = ".".join(map(str, (*key_of(config, name), "prompt")))
        own = _Prompt(OWN_PROMPT, None, prompt_template(teacher.prompt, key))
        prompts = _distinct([own, *given], notes)
        found.append(Candidate("", name, own.name, None, own.template, teacher, True))
        found += [
            Candidate("", name, prompt.name, prompt.file, prompt.template, variant, False)
            for prompt in prompts
            for variant in _variants(name, teacher, axes, notes)
            if prompt is not own or variant != teacher
        ]
    if axes.temperatures and all(candidate.temperature is None for candidate in found):
        raise UsageError(
            "temperatures are of generated answers, and no teacher generates",
            where="--temperature",
            hint="add --answer generate, or leave --temperature out: scores are the same at every temperature",
        )
    return _named(found), list(dict.fromkeys(notes))


def _given_prompts(paths: Sequence[Path]) -> list[_Prompt]:
    """The prompt files, by their names; where two files have the same, or the configured prompt's, by their paths."""
    prompts, problems = [], []
    stems = [OWN_PROMPT, *(path.stem for path in dict.fromkeys(paths))]
    for path in paths:
        template = read_template(path.expanduser(), "--prompt")
        if isinstance(template, Problem):
            problems.append(template)
        else:
            name = path.stem if stems.count(path.stem) == 1 else str(path)
            prompts.append(_Prompt(name, str(path), template))
    if problems:
        raise ConfigError(problems)
    return prompts


def _distinct(prompts: Sequence[_Prompt], notes: list[str]) -> list[_Prompt]:
    """Without those that read like an earlier one; each of these is noted."""
    kept: dict[str, _Prompt] = {}
    for prompt in prompts:
        same = kept.setdefault((prompt.template or TEACHER_PROMPT).strip(), prompt)
        if same is not prompt:
            notes.append(f"{prompt.file} reads like the prompt `{same.name}`, and is not asked again")
    return list(kept.values())


def _variants(name: str, teacher: TeacherConfig, axes: Axes, notes: list[str]) -> list[TeacherConfig]:
    """The teacher with every kind of answer and temperature that was asked for; as it is where none was."""
    variants = []
    for answer in axes.answers or (teacher.answer,):
        if answer == "score":
            if axes.temperatures and axes.answers:
                notes.append("scored answers have no temperature: they are compared once")
            elif axes.temperatures:
                notes.append(f"{name} scores its answers, which have no temperature: it is compared as it is")
            variants.append(_variant(teacher, "score", 0.0, notes))
        else:
            temperatures = axes.temperatures or (teacher.temperature,)
            variants += [_variant(teacher, "generate", temperature, notes) for temperature in temperatures]
    return [variant for place, variant in enumerate(variants) if variant not in variants[:place]]


def _variant(teacher: TeacherConfig, answer: AnswerKind, temperature: float, notes: list[str]) -> TeacherConfig:
    """The teacher answering in this way. Settings of the other kind of answer go back to their defaults."""
    fields = TeacherConfig.model_fields
    others = OF_SCORES if answer == "generate" else OF_GENERATED
    changes: dict[str, Any] = {"answer": answer, **{key: fields[key].default for key in others}}
    if answer == "generate":
        changes["temperature"] = temperature
        if not temperature and teacher.samples > 1:
            notes.append("at temperature 0 all samples are the same: one is taken")
            changes["samples"] = 1
    return TeacherConfig.model_validate(teacher.model_dump() | changes)


def _named(found: Sequence[Candidate]) -> list[Candidate]:
    """The candidates with names made of what differs among them."""
    several_teachers = len({candidate.teacher for candidate in found}) > 1
    several_answers = _vary((each.teacher, each.config.answer) for each in found)
    several_temperatures = _vary((each.teacher, each.temperature) for each in found if each.temperature is not None)
    named = []
    for candidate in found:
        parts = [candidate.teacher] if several_teachers else []
        parts.append(candidate.prompt or "recorded")
        if candidate.prompt and several_answers:
            parts.append(candidate.config.answer)
        if candidate.temperature is not None and several_temperatures:
            parts.append(f"{candidate.temperature:g}")
        named.append(replace(candidate, name=SEPARATOR.join(parts)))
    return named


def _vary(values: Iterable[tuple[str, object]]) -> bool:
    """Whether any teacher has several of the values (teacher, value)."""
    distinct = set(values)
    return len(distinct) > len({teacher for teacher, _ in distinct})
