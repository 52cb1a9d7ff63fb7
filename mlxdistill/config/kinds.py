"""What kinds of value a key of the configuration takes, read from its type.

Kinds are `str`, `int`, `float`, `bool`, `dict` (a section or a mapping), `list` and `NoneType`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel


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


def child(annotation: Any, name: str | int) -> Any:
    """The type of one key of a section or mapping; None where there is no such key."""
    if is_section(annotation):
        return annotation.model_fields[name].annotation if name in annotation.model_fields else None
    return get_args(annotation)[1] if get_origin(annotation) is dict else None
