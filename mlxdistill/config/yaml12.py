"""YAML as its version 1.2 reads it, with the line of every key.

PyYAML follows version 1.1, where a label `no` is a boolean and `1e-4` a string. Only the scalars differ enough to
matter, so its parser is kept and its resolvers are replaced by those of the 1.2 core schema.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from mlxdistill.errors import Problem

Path = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


@dataclass(slots=True)
class Document:
    """A parsed file: its value, the line (from 1) of each key and item by its path, and what is wrong with it."""

    value: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def parse_scalar(text: str) -> Any:
    """The value of one setting, as YAML would read it: `3`, `true`, `[a, b]`, `some text`."""
    try:
        return parse_document(text, "value").value
    except yaml.YAMLError:
        return text


def parse_document(text: str, name: str) -> Document:
    """Reads YAML 1.2. Duplicate keys and broken syntax are problems with `name:line`, not exceptions."""
    document = Document()
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is not None:
            document.value = _construct(loader, node, (), document, name)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        document.problems.append(
            Problem(where, f"not valid YAML: {error.problem or error.context}", "check indentation and quotes")
        )
    except (yaml.YAMLError, RecursionError) as error:
        document.problems.append(Problem(name, f"not valid YAML: {str(error).splitlines()[0]}"))
    finally:
        loader.dispose()
    return document


def _construct(loader: _Loader, node: yaml.Node, path: Path, document: Document, name: str) -> Any:
    document.lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = _scalar(loader, key_node)
            line = key_node.start_mark.line + 1
            if key in mapping:
                document.problems.append(
                    Problem(f"{name}:{line}", f"the key {key!r} stands here a second time", "remove one")
                )
            child = (*path, key if isinstance(key, str) else str(key).lower() if isinstance(key, bool) else str(key))
            document.lines[child] = line
            mapping[key] = _construct(loader, value_node, child, document, name)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_construct(loader, item, (*path, index), document, name) for index, item in enumerate(node.value)]
    return _scalar(loader, node)


def _scalar(loader: _Loader, node: yaml.Node) -> Any:
    if not isinstance(node, yaml.ScalarNode):
        raise yaml.MarkedYAMLError(problem="a key must be plain text", problem_mark=node.start_mark)
    text = node.value
    if node.tag.endswith(":int") and text.lstrip("+-")[:2] in ("0o", "0x"):
        return int(text, 0)
    if node.tag.endswith(":int"):
        return int(text)
    if node.tag.endswith(":float") and "n" not in text.lower():
        return float(text)
    return loader.construct_object(node, deep=True)
