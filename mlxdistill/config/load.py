"""From a YAML file, the environment and flags to one checked configuration.

    flags (--set)  >  environment (MLXDISTILL_TRAIN__EPOCHS)  >  the file  >  defaults

Every problem is reported at once, each with its place and, for a misspelt key, the nearest known one.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from mlxdistill.config.models import Config, Section, StudentConfig, TrainConfig
from mlxdistill.config.yaml12 import Document, parse_document, parse_scalar
from mlxdistill.errors import ConfigError, Problem

PREFIX = "MLXDISTILL_"
# Values that name files: `~` and ${VAR} are expanded, and a relative path in the file is relative to the file.
PATH_KEYS = (
    ("data", "source"),
    ("data", "valid"),
    ("data", "test", "indist"),
    ("data", "test", "balanced"),
    ("teacher", "model"),
    ("teacher", "log"),
    ("teacher", "prompt"),
    ("student", "model"),
    ("student", "prompt"),
)
MODEL_KEYS = (("teacher", "model"), ("student", "model"))
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """The configuration, and for each value that was set, where (`file:line`, a variable, a flag)."""

    config: Config
    origins: Mapping[KeyPath, str]
    path: Path

    def origin(self, path: KeyPath) -> str:
        """Where the value at this path came from: its own or its nearest parent's origin, else `default`."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return "default"


def load_config(
    path: Path, overrides: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> LoadedConfig:
    """Reads and checks a configuration. Raises ConfigError with every problem found."""
    environment = os.environ if environment is None else environment
    document = _read(path)
    problems = list(document.problems)
    tree: dict[Any, Any] = document.value if isinstance(document.value, dict) else {}
    if document.value is not None and not isinstance(document.value, dict):
        problems.append(Problem(str(path), "a configuration is a mapping of keys", "see `mlxdistill init`"))
    elif document.value is None and not problems:
        problems.append(Problem(str(path), "the configuration is empty", "write one with `mlxdistill init`"))
    if problems:
        raise ConfigError(problems)
    origins: dict[KeyPath, str] = {key: f"{path}:{line}" for key, line in document.lines.items() if key}
    bases = dict.fromkeys(origins, path.parent)
    for name, value in sorted(environment.items()):
        if name.startswith(PREFIX) and "__" in name[len(PREFIX) :]:
            _put(tree, origins, tuple(name[len(PREFIX) :].lower().split("__")), value, name, problems)
    _put_settings(tree, origins, overrides, problems)
    _expand_paths(tree, origins, bases, environment, problems)
    config = _validate(tree, origins, path, problems)
    if config is None or problems:
        raise ConfigError(problems)
    problems.extend(_label_problems(config, origins, path))
    if problems:
        raise ConfigError(problems)
    return LoadedConfig(config, origins, path)


def parse_settings(settings: Sequence[str], model: str) -> tuple[StudentConfig, TrainConfig]:
    """The student's and the training's sections from flags alone. Raises ConfigError with every problem found."""
    tree: dict[Any, Any] = {"student": {"model": model}}
    origins: dict[KeyPath, str] = {("student", "model"): "--model"}
    problems: list[Problem] = []
    _put_settings(tree, origins, settings, problems)
    try:
        sections = _TrainingOnly.model_validate(tree)
    except ValidationError as error:
        raise ConfigError([*problems, *(_problem(detail, origins, "--set") for detail in error.errors())]) from None
    if problems:
        raise ConfigError(problems)
    return sections.student, sections.train


class _TrainingOnly(Section):
    student: StudentConfig
    train: TrainConfig = TrainConfig()


def _put_settings(
    tree: dict[Any, Any], origins: dict[KeyPath, str], settings: Sequence[str], problems: list[Problem]
) -> None:
    for setting in settings:
        key, separator, value = setting.partition("=")
        if not separator or not key:
            hint = "for example --set train.epochs=2"
            problems.append(Problem(f"--set {setting}", "a setting is written key=value", hint))
            continue
        _put(tree, origins, tuple(key.strip().split(".")), value, f"--set {key.strip()}", problems)


def _read(path: Path) -> Document:
    if path.is_dir():
        raise ConfigError([Problem(str(path), "is a folder; a configuration is a YAML file", "name the file in it")])
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [file.name for file in path.parent.glob("*.y*ml")], 1)
        hint = (
            f"did you mean {path.parent / near[0]}?" if near else "write one with `mlxdistill init NAME --labels a,b`"
        )
        raise ConfigError([Problem(str(path), "no such file", hint)]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(str(path), f"not UTF-8 (byte {error.start})", "save the file as UTF-8")]) from None
    except OSError as error:
        raise ConfigError([Problem(str(path), f"cannot be read: {(error.strerror or '').lower()}")]) from None
    if "\0" in text:
        raise ConfigError([Problem(str(path), "holds NUL bytes, so it is not a YAML file")])
    return parse_document(text, str(path))


def _put(
    tree: dict[Any, Any], origins: dict[KeyPath, str], key: KeyPath, text: str, origin: str, problems: list[Problem]
) -> None:
    node = tree
    for part in key[:-1]:
        child = node.get(part)
        if child is None:
            child = node[part] = {}
        if not isinstance(child, dict):
            problems.append(Problem(origin, f"{'.'.join(map(str, key))} cannot be set: {part} is a single value"))
            return
        node = child
    node[key[-1]] = parse_scalar(text)
    for known in [known for known in origins if known[: len(key)] == key]:
        del origins[known]
    origins[key] = origin


def _expand_paths(
    tree: dict[Any, Any],
    origins: Mapping[KeyPath, str],
    bases: Mapping[KeyPath, Path],
    environment: Mapping[str, str],
    problems: list[Problem],
) -> None:
    for key in PATH_KEYS:
        node: Any = tree
        for part in key[:-1]:
            node = node.get(part) if isinstance(node, dict) else None
        if not isinstance(node, dict) or key[-1] not in node:
            continue
        where = origins.get(key, "")
        base = bases.get(key) if not where.startswith(("--set", PREFIX)) else None
        value = node[key[-1]]
        if isinstance(value, list):
            node[key[-1]] = [_expand(item, key, base, environment, where, problems) for item in value]
        else:
            node[key[-1]] = _expand(value, key, base, environment, where, problems)


def _expand(
    value: Any, key: KeyPath, base: Path | None, environment: Mapping[str, str], where: str, problems: list[Problem]
) -> Any:
    if not isinstance(value, str):
        return value
    dotted = ".".join(map(str, key))
    problems.extend(
        Problem(where, f"`{dotted}` needs the variable {name}, which is not set", f"export {name}=…")
        for name in _VARIABLE.findall(value)
        if name not in environment
    )
    expanded = _VARIABLE.sub(lambda match: environment.get(match.group(1), ""), value)
    if expanded.startswith("~"):
        expanded = str(Path(expanded).expanduser())
    if (
        key in MODEL_KEYS
        and not expanded.startswith((".", "/"))
        and (":" in expanded or not expanded.endswith(".gguf"))
    ):
        return expanded  # a hub id or another model's name; a folder beside the file is written ./folder
    if base is not None and expanded and not Path(expanded).is_absolute():
        expanded = str((base / expanded).resolve()) if base != Path() else expanded
    return expanded


def _validate(
    tree: dict[Any, Any], origins: Mapping[KeyPath, str], path: Path, problems: list[Problem]
) -> Config | None:
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        problems.extend(_problem(detail, origins, str(path)) for detail in error.errors())
    return None


def _problem(detail: Any, origins: Mapping[KeyPath, str], fallback: str) -> Problem:
    names = [part for part in detail["loc"] if not (isinstance(part, str) and (part in ("int", "str") or "[" in part))]
    parents = (tuple(names[:length]) for length in range(len(names), 0, -1))
    where = next((origins[parent] for parent in parents if parent in origins), fallback)
    dotted = ".".join(map(str, names))
    if detail["type"] == "extra_forbidden":
        known = _known_keys(tuple(names[:-1]))
        near = difflib.get_close_matches(str(names[-1]), known, 1, cutoff=0.5)
        place = ".".join(map(str, names[:-1]))
        hint = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}"
        return Problem(where, f"unknown key `{names[-1]}`" + (f" in `{place}`" if place else ""), hint)
    if detail["type"] == "missing":
        return Problem(
            where,
            f"`{dotted}` is missing",
            f"add `{names[-1]}:` " + (f"under `{names[-2]}:`" if names[1:] else "at the top level"),
        )
    message = detail["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(detail["input"], dict | list) else f", not {detail['input']!r}"
    return Problem(where, f"`{dotted}`: {message[0].lower()}{message[1:]}{shown}" if dotted else message)


def _known_keys(key: KeyPath) -> list[str]:
    model: type[BaseModel] | None = Config
    for part in key:
        annotation = model.model_fields[str(part)].annotation if model and str(part) in model.model_fields else None
        if get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
            model = annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else model
            continue
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    return list(model.model_fields) if model else []


def _label_problems(config: Config, origins: Mapping[KeyPath, str], path: Path) -> list[Problem]:
    labels = list(config.task.labels)
    problems = []
    maps = {
        ("data", "gold_values"): config.data.gold_values,
        ("teacher", "answer_values"): config.teacher.answer_values,
    }
    for key, values in maps.items():
        for value, label in values.items():
            if label not in labels:
                near = difflib.get_close_matches(label, labels, 1)
                hint = f"did you mean `{near[0]}`?" if near else f"the labels are: {', '.join(labels)}"
                where = origins.get((*key, value)) or origins.get(key) or str(path)
                problems.append(
                    Problem(
                        where, f"`{'.'.join(key)}` maps {value!r} to {label!r}, which is no label of the task", hint
                    )
                )
    return problems
