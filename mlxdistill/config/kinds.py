"""What kinds of value a key of the configuration takes, read from its type.

Kinds are `str`, `int`, `float`, `bool`, `dict` (a section or a mapping), `list` and `NoneType`.
"""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Tag


def kinds(annotation: Any) -> set[type]:
    """The kinds that values of this type can be, of all branches of a union."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return kinds(get_args(annotation)[0])
    if origin is Literal:
        return {type(value) for value in get_args(annotation)}
    if origin in (tuple, list):
        return {list}
    if origin is dict or is_section(annotation):
        return {dict}
    if isinstance(annotation, type):
        return {annotation}
    return {kind for branch in get_args(annotation) for kind in kinds(branch)}


def is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def section(annotation: Any) -> type[BaseModel] | None:
    """The section that a type is, or has among its branches."""
    found: type[BaseModel] | None = next(filter(is_section, _branches(annotation)), None)
    return found


def branch(annotation: Any, tag: str | int) -> Any:
    """The branch of a union that is tagged so; the type itself where it has none."""
    for option in get_args(annotation):
        if any(isinstance(mark, Tag) and mark.tag == tag for mark in getattr(option, "__metadata__", ())):
            return get_args(option)[0]
    return annotation


def child(annotation: Any, name: str | int) -> Any:
    """The type of one key of a section or mapping, or item of a list; None where there is no such key."""
    for one in _branches(annotation):
        if isinstance(name, int):
            if get_origin(one) in (tuple, list):
                return get_args(one)[0]
        elif is_section(one):
            return one.model_fields[name].annotation if name in one.model_fields else None
        elif get_origin(one) is dict:
            return get_args(one)[1]
    return None


def _branches(annotation: Any) -> list[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _branches(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [one for option in get_args(annotation) for one in _branches(option)]
    return [annotation]
