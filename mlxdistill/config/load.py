"""From a YAML file, the environment and flags to one checked configuration.

    flags (--set)  >  environment (MLXDISTILL_TRAIN__EPOCHS)  >  the file  >  defaults

Every problem is reported at once, each with its place and, for a misspelt key, the nearest known one.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mlxdistill.config.filter_problems import filter_problems
from mlxdistill.config.kinds import child, kinds
from mlxdistill.config.models import TEACHERS_PROMPT, Config, StudentConfig, TrainConfig
from mlxdistill.config.problems import KeyPath, label_problems, validation_problems
from mlxdistill.config.section import Section
from mlxdistill.config.yaml12 import Document, parse_document
from mlxdistill.errors import ConfigError, Problem

PREFIX = "MLXDISTILL_"
# Values that name files: `~` and ${VAR} are expanded. A relative path in the file is relative to the file, any other to
# the current folder; all become absolute, because a run's folder keeps the configuration.
PATH_KEYS = (
    ("data", "source"),
    ("data", "valid"),
    ("data", "test", "indist"),
    ("data", "test", "balanced"),
    ("teacher", "model"),
    ("teacher", "log"),
    ("teacher", "prompt"),
    ("synth", "prompt"),
    ("filter", "rules", "json_schema"),
    ("student", "model"),
    ("student", "prompt"),
)
MODEL_KEYS = (("teacher", "model"), ("student", "model"))
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """The configuration, and for each value that was set, where (`file:line`, a variable, a flag).

    Attributes:
        origins: by the path of each key, section and item that was given.
        sections: those of them that are mappings: a key missing in one has its default.
    """

    config: Config
    origins: Mapping[KeyPath, str]
    sections: Set[KeyPath]
    path: Path

    def origin(self, path: KeyPath) -> str:
        """Where the value at this path came from: its own origin, that of the list or short form it was part of, or
        `default`."""
        if path in self.origins:
            return self.origins[path]
        nearest = next((path[:end] for end in range(len(path) - 1, 0, -1) if path[:end] in self.origins), None)
        return "default" if nearest is None or nearest in self.sections else self.origins[nearest]


def load_config(
    path: Path, overrides: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> LoadedConfig:
    """Reads and checks a configuration. Raises ConfigError with every problem found."""
    environment = os.environ if environment is None else environment
    document = _read(path)
    problems = list(document.problems)
    tree: dict[str, Any] = document.value if isinstance(document.value, dict) else {}
    if document.value is not None and not isinstance(document.value, dict):
        problems.append(Problem(str(path), "a configuration is a mapping of keys", "see `mlxdistill init`"))
    elif document.value is None and not problems:
        problems.append(Problem(str(path), "the configuration is empty", "write one with `mlxdistill init`"))
    if not isinstance(document.value, dict):
        raise ConfigError(problems)
    given = _Given(
        tree,
        {key: f"{path}:{line}" for key, line in document.lines.items() if key},
        document.mappings,
        problems,
        dict.fromkeys(document.lines, path.parent),
    )
    given.put_environment(environment)
    given.put_settings(overrides)
    given.expand_paths(environment)
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError([*problems, *validation_problems(error, given.origins, str(path))]) from None
    problems.extend(label_problems(config, given.origins, str(path)))
    problems.extend(filter_problems(config, given.origins, str(path)))
    if problems:
        raise ConfigError(problems)
    return LoadedConfig(config, given.origins, given.sections, path)


def parse_settings(
    settings: Sequence[str], model: str, environment: Mapping[str, str] | None = None
) -> tuple[StudentConfig, TrainConfig]:
    """The student's and the training's sections without a file: from flags, then the environment.

    Raises ConfigError with every problem found.
    """
    environment = os.environ if environment is None else environment
    given = _Given()
    given.put_environment(environment, tuple(_TrainingOnly.model_fields))
    given.tree.setdefault("student", {})["model"] = model
    given.origins["student", "model"] = "--model"
    given.put_settings(settings)
    given.expand_paths(environment)
    try:
        sections = _TrainingOnly.model_validate(given.tree)
    except ValidationError as error:
        raise ConfigError([*given.problems, *validation_problems(error, given.origins, "--set")]) from None
    if sections.train.rationale_weight:
        message = "no teacher gives rationales here; in a data folder every row has a `weight` of its own"
        given.problems.append(Problem(given.origins["train", "rationale_weight"], message, "leave it out"))
    if sections.train.class_balance:
        message = "a data folder's rows have no classes to balance; every row may have a `weight` of its own"
        given.problems.append(Problem(given.origins["train", "class_balance"], message, "leave it out"))
    if sections.train.share < 1:
        message = "a data folder is learned whole"
        given.problems.append(Problem(given.origins["train", "share"], message, "leave it out"))
    if sections.train.record_dynamics:
        message = "a data folder's rows go through no filter"
        given.problems.append(Problem(given.origins["train", "record_dynamics"], message, "leave it out"))
    if sections.student.prompt is not None:
        message = "a data folder's rows hold their prompts themselves"
        given.problems.append(Problem(given.origins["student", "prompt"], message, "leave student.prompt out"))
    if given.problems:
        raise ConfigError(given.problems)
    return sections.student, sections.train


class _TrainingOnly(Section):
    student: StudentConfig
    train: TrainConfig = TrainConfig()


@dataclass(slots=True)
class _Given:
    """What has been given so far: the values, the origin of each, and what is wrong.

    `bases` are the folders that relative paths of a file's values start from.
    """

    tree: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)
    sections: set[KeyPath] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    bases: dict[KeyPath, Path] = field(default_factory=dict)

    def put_environment(self, environment: Mapping[str, str], sections: Sequence[str] | None = None) -> None:
        """Takes over MLXDISTILL_SECTION__KEY; with `sections`, of these alone."""
        for name, value in sorted(environment.items()):
            key = tuple(name.removeprefix(PREFIX).lower().split("__"))
            if name.startswith(PREFIX) and len(key) > 1 and (sections is None or key[0] in sections):
                self._put(key, value, name)

    def put_settings(self, settings: Sequence[str]) -> None:
        for setting in settings:
            key, separator, value = setting.partition("=")
            if separator and key:
                self._put(tuple(key.strip().split(".")), value, f"--set {key.strip()}")
            else:
                hint = "for example --set train.epochs=2"
                self.problems.append(Problem(f"--set {setting}", "a setting is written key=value", hint))

    def _put(self, names: tuple[str, ...], text: str, origin: str) -> None:
        node: Any = self.tree
        key: KeyPath = ()
        for depth, name in enumerate(names, start=1):
            if not isinstance(node, dict | list):
                message = f"{'.'.join(names)} cannot be set: {key[-1]} is a single value"
                self.problems.append(Problem(origin, message))
                return
            if isinstance(node, list) and not (name.isdecimal() and int(name) < len(node)):
                self.problems.append(_no_item(names, depth, len(node), origin))
                return
            part: Any = int(name) if isinstance(node, list) else name
            key = (*key, part)
            if depth == len(names):
                break
            if isinstance(node, dict) and node.get(part) is None:
                node[part] = {}
                self.sections.add(key)
            node = node[part]
        document = _setting(key, text)
        node[key[-1]] = document.value
        for known in [known for known in (*self.origins, *self.bases) if known[: len(key)] == key]:
            self.origins.pop(known, None)
            self.bases.pop(known, None)
            self.sections.discard(known)
        self.origins.update(((*key, *path), origin) for path in ((), *document.lines))
        self.sections.update((*key, *path) for path in document.mappings)

    def expand_paths(self, environment: Mapping[str, str]) -> None:
        for name in PATH_KEYS:
            for key, node in _holders(self.tree, name):
                expand = partial(_expand, key, self.bases.get(key, Path()), environment, self.origins.get(key, ""))
                value = node[key[-1]]
                if isinstance(value, list):
                    node[key[-1]] = [expand(item, self.problems) for item in value]
                else:
                    node[key[-1]] = expand(value, self.problems)


def _no_item(names: tuple[str, ...], depth: int, items: int, origin: str) -> Problem:
    holder, name = ".".join(names[: depth - 1]), names[depth - 1]
    message = f"{'.'.join(names)} cannot be set: {holder} is a list of {items} and has no item {name}"
    example = ".".join([holder, "0", *names[depth if name.isdecimal() else depth - 1 :]])
    return Problem(origin, message, f"its items are counted from 0: {example}" if items else None)


def _holders(tree: Any, name: tuple[str, ...]) -> Iterator[tuple[KeyPath, dict[Any, Any]]]:
    """Where the key stands, and the mapping that holds it; of a list of sections, in each that has it."""
    nodes: list[tuple[KeyPath, Any]] = [((), tree)]
    for part in name[:-1]:
        found = [((*key, part), node.get(part)) for key, node in nodes if isinstance(node, dict)]
        nodes = []
        for key, node in found:
            nodes += (
                [((*key, index), item) for index, item in enumerate(node)] if isinstance(node, list) else [(key, node)]
            )
    for key, node in nodes:
        if isinstance(node, dict) and name[-1] in node:
            yield (*key, name[-1]), node


def _setting(key: KeyPath, text: str) -> Document:
    """A setting's value as YAML would read it (`3`, `true`, `[a, b]`), or its text where the key takes only that."""
    document = parse_document(text, "value")
    annotation: Any = Config
    for part in key:
        annotation = child(annotation, part)
    taken = kinds(annotation)
    found = type(document.value)
    # A wrong number or boolean for a key that takes numbers is better refused than taken for text.
    wanted = str not in taken or found in taken or (found in (bool, int, float) and taken & {int, float})
    return document if wanted and not document.problems else Document(text)


def _read(path: Path) -> Document:
    if os.path.isdir(path):
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
        reason = (error.strerror or type(error).__name__).lower()
        raise ConfigError([Problem(str(path), f"cannot be read: {reason}", "check its permissions")]) from None
    if "\0" in text:
        raise ConfigError([Problem(str(path), "holds NUL bytes, so it is not a YAML file")])
    return parse_document(text, str(path))


def _expand(
    key: KeyPath, base: Path, environment: Mapping[str, str], where: str, value: Any, problems: list[Problem]
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
        tuple(part for part in key if isinstance(part, str)) in MODEL_KEYS
        and not expanded.startswith((".", "/"))
        and (":" in expanded or not expanded.endswith(".gguf"))
    ):
        return expanded  # a hub id or another model's name; a folder beside the file is written ./folder
    if key == ("student", "prompt") and expanded == TEACHERS_PROMPT:
        return expanded
    # Links stay: a model's file in the hub's cache is a link, and only the link has the file's name.
    return os.path.abspath(base / expanded) if expanded else expanded
