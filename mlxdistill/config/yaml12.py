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
    """A parsed file.

    Attributes:
        lines: the line (from 1) of each key and item, by its path.
        mappings: the paths whose values are mappings.
        problems: what is wrong with it.
    """

    value: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    mappings: set[Path] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)


def parse_document(text: str, name: str) -> Document:
    """Reads YAML 1.2, with every key as the text it is written as.

    Duplicate keys and broken syntax are problems with `name:line`, not exceptions.
    """
    document = Document()
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is not None:
                document.value = _construct(loader, node, (), document, name)
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"holds a character that YAML does not allow (U+{ord(text[error.position]):04X})"
        document.problems.append(Problem(f"{name}:{line}", message, 'remove it, or write it as an escape in "quotes"'))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        document.problems.append(
            Problem(where, f"not valid YAML: {error.problem or error.context}", "check indentation and quotes")
        )
    except (yaml.YAMLError, RecursionError) as error:
        document.problems.append(Problem(name, f"not valid YAML: {str(error).splitlines()[0]}"))
    return document


def _construct(loader: _Loader, node: yaml.Node, path: Path, document: Document, name: str) -> Any:
    document.lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        document.mappings.add(path)
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be plain text", problem_mark=key_node.start_mark)
            key = key_node.value
            line = key_node.start_mark.line + 1
            if key in mapping:
                document.problems.append(
                    Problem(f"{name}:{line}", f"the key {key!r} stands here a second time", "remove one")
                )
            document.lines[*path, key] = line
            mapping[key] = _construct(loader, value_node, (*path, key), document, name)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_construct(loader, item, (*path, index), document, name) for index, item in enumerate(node.value)]
    return _scalar(loader, node)


def _scalar(loader: _Loader, node: yaml.Node) -> Any:
    text = node.value
    try:
        if node.tag.endswith(":int"):
            return int(text, 0 if text.lstrip("+-")[:2] in ("0o", "0x") else 10)
        if node.tag.endswith(":float") and "n" not in text.lower():
            return float(text)
        return loader.construct_object(node, deep=True)
    except (ValueError, KeyError):
        kind = node.tag.rpartition(":")[2]
        raise yaml.MarkedYAMLError(problem=f"no {kind}: {text[:40]!r}", problem_mark=node.start_mark) from None
