"""What is wrong with a configuration, in the words of its file: one problem for each key, with place and mend."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from mlxdistill.config.kinds import branch, child, is_section, section
from mlxdistill.config.models import Config
from mlxdistill.errors import Problem

KeyPath = tuple[str | int, ...]

_WANTED = "Input should be "
_SECTION_ERRORS = ("model_type", "model_attributes_type")


def validation_problems(error: ValidationError, origins: Mapping[KeyPath, str], fallback: str) -> list[Problem]:
    """The problems pydantic found. Those that the branches of a union have with one value are one problem.

    `fallback` is the place of what has no origin.
    """
    by_key: dict[KeyPath, list[Any]] = {}
    for detail in error.errors():
        by_key.setdefault(_key(detail["loc"]), []).append(detail)
    return [_problem(key, details, origins, fallback) for key, details in by_key.items()]


def label_problems(config: Config, origins: Mapping[KeyPath, str], fallback: str) -> list[Problem]:
    """Values that are mapped to what is no label of the task."""
    labels = list(config.task.labels)
    maps: dict[KeyPath, Mapping[str, str]] = {
        ("data", "gold_values"): config.data.gold_values,
        **{
            (*teacher_key(config, number), "answer_values"): teacher.answer_values
            for number, teacher in enumerate(config.teachers.values())
        },
    }
    problems = []
    for key, values in maps.items():
        for value, label in values.items():
            if label not in labels:
                near = difflib.get_close_matches(label, labels, 1)
                hint = f"did you mean `{near[0]}`?" if near else f"the labels are: {', '.join(labels)}"
                where = origins.get((*key, value)) or origins.get(key) or fallback
                message = f"`{_dotted(key)}` maps {value!r} to {label!r}, which is no label of the task"
                problems.append(Problem(where, message, hint))
    for label in config.synth.classes:
        if label not in labels:
            where = origins.get(("synth", "classes", label)) or origins.get(("synth", "classes")) or fallback
            message = f"`synth.classes` names {label!r}, which is no label of the task"
            problems.append(Problem(where, message, f"the labels are: {', '.join(labels)}"))
    return problems


def teacher_key(config: Config, number: int) -> KeyPath:
    """Where the teacher of this number (from 0) stands in the configuration."""
    return ("teacher", number) if isinstance(config.teacher, tuple) else ("teacher",)


def _key(location: tuple[str | int, ...]) -> KeyPath:
    """The location without the names that pydantic gives to the branches of a union."""
    annotation: Any = Config
    key: list[str | int] = []
    for part in location:
        if is_section(annotation) or get_origin(annotation) is dict or isinstance(part, int):
            annotation = child(annotation, part)
            key.append(part)
        else:
            annotation = branch(annotation, part)
    return tuple(key)


def _problem(key: KeyPath, details: list[Any], origins: Mapping[KeyPath, str], fallback: str) -> Problem:
    kind, value = details[0]["type"], details[0]["input"]
    where = place_of(key, origins) or fallback
    if kind == "extra_forbidden":
        return _unknown_key(key, where)
    if kind == "missing":
        place = f"under `{key[-2]}:`" if key[1:] else "at the top level"
        return Problem(where, f"`{_dotted(key)}` is missing", f"add `{key[-1]}:` {place}")
    if value is None:
        return Problem(where, f"`{_dotted(key)}` is empty", _hint(key))
    messages = list(dict.fromkeys(_words(detail) for detail in details))
    message = " or ".join([messages[0], *(message.removeprefix(_WANTED) for message in messages[1:])])
    shown = "" if isinstance(value, dict | list) else f", not {value!r}"
    hint = None if kind == "value_error" else _hint(key)  # a check of our own says what it wants
    return Problem(where, f"`{_dotted(key)}`: {message[0].lower()}{message[1:]}{shown}" if key else message, hint)


def place_of(key: KeyPath, origins: Mapping[KeyPath, str]) -> str | None:
    """Where the key was given: itself, something below it (`--set tarin.epochs=2` makes `tarin`), or what holds it."""
    below = (origins[other] for other in origins if other[: len(key)] == key)
    above = (origins[key[:end]] for end in range(len(key) - 1, 0, -1) if key[:end] in origins)
    return origins.get(key) or next(below, None) or next(above, None)


def _words(detail: Any) -> str:
    if detail["type"] in _SECTION_ERRORS:
        return f"{_WANTED}a section with keys of its own"
    if detail["type"] == "dict_type":
        return f"{_WANTED}keys with a value each"
    return str(detail["msg"]).removeprefix("Value error, ")


def _hint(key: KeyPath) -> str | None:
    """What belongs under the key: a section's keys; else what the key is for, and its default."""
    annotation: Any = Config
    field: FieldInfo | None = None
    for part in key:
        holder = section(annotation)
        if not isinstance(part, int):
            field = holder.model_fields.get(part) if holder else None
        annotation = child(annotation, part)
    if (found := section(annotation)) is not None:
        return f"its keys are: {', '.join(found.model_fields)}"
    if field is None:
        return None
    default = field.get_default(call_default_factory=False)
    known = [field.description] if field.description else []
    if isinstance(default, str | int | float) and not isinstance(default, bool):
        known.append(f"The default is {default}.")
    return " ".join(known) or None


def _unknown_key(key: KeyPath, where: str) -> Problem:
    annotation: Any = Config
    for part in key[:-1]:
        annotation = child(annotation, part)
    holder = section(annotation)
    known = list(holder.model_fields) if holder else []
    near = difflib.get_close_matches(str(key[-1]), known, 1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}"
    return Problem(where, f"unknown key `{key[-1]}`" + (f" in `{_dotted(key[:-1])}`" if key[1:] else ""), hint)


def _dotted(key: KeyPath) -> str:
    return ".".join(map(str, key))
