"""How arrays lie in memory, and which operations need no memory because they only look at it otherwise.

As MLX 0.32 decides it (mlx/backend/common: common.cpp, slicing.cpp, broadcasting.cpp).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlxdistill.student.graph import Layout, Operation

_SAME = frozenset({"Copy", "StopGradient", "Depends"})
_RESHAPED = frozenset({"Reshape", "Flatten", "Unflatten"})


@dataclass(slots=True)
class Buffer:
    """Memory that arrays share.

    Attributes:
        wide: whether it counts apart; `is_given`: whether it was there before; `is_result`: whether it stays.
        arrays: how many look at it; `released`: when the last operation that reads it so far has run.
    """

    size: int
    wide: bool
    is_given: bool = False
    is_result: bool = False
    arrays: int = 0
    released: int = 0


@dataclass(frozen=True, slots=True)
class LaidOut:
    """An array in a buffer, or given (None).

    Attributes:
        item: bytes of a number; `filled`: numbers that lie in the buffer.
        dense: whether without gaps; `rows`, `columns`: whether in the order of C or of Fortran.
    """

    shape: tuple[int, ...]
    item: int
    strides: tuple[int, ...]
    filled: int
    dense: bool
    rows: bool
    columns: bool
    buffer: Buffer | None

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def whole(layout: Layout, buffer: Buffer | None) -> LaidOut:
    """In the order of C, without gaps."""
    size = math.prod(layout.shape)
    vector = size <= 1 or size == max(layout.shape)
    return LaidOut(layout.shape, layout.item_bytes, _row_strides(layout.shape), size, True, True, vector, buffer)


def _row_strides(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def viewed(operation: Operation, inputs: list[LaidOut], layouts: list[Layout]) -> list[LaidOut] | None:
    """The results where they are views of the inputs; None where memory is needed."""
    kind = operation.kind
    if kind in _SAME:
        return inputs[: len(layouts)]
    view = _VIEWS.get(kind)
    return None if view is None else view(inputs[0], operation.arguments, layouts)


def _transposed(array: LaidOut, arguments: Sequence[Any], layouts: list[Layout]) -> list[LaidOut]:
    return [_with_strides(array, layouts[0].shape, tuple(array.strides[axis] for axis in arguments[0]), array.filled)]


def _broadcast(array: LaidOut, arguments: Sequence[Any], layouts: list[Layout]) -> list[LaidOut]:
    shape = layouts[0].shape
    missing = len(shape) - len(array.shape)
    strides = (0,) * missing + tuple(
        0 if size == 1 else stride for size, stride in zip(array.shape, array.strides, strict=True)
    )
    same = math.prod(shape) <= array.size
    return [replace(array, shape=shape, strides=strides, rows=same and array.rows, columns=same and array.columns)]


def _expanded(array: LaidOut, arguments: Sequence[Any], layouts: list[Layout]) -> list[LaidOut]:
    strides = list(array.strides)
    for axis in arguments[0]:
        strides.insert(axis, 1)
    return [replace(array, shape=layouts[0].shape, strides=tuple(strides))]


def _squeezed(array: LaidOut, arguments: Sequence[Any], layouts: list[Layout]) -> list[LaidOut]:
    strides = tuple(stride for axis, stride in enumerate(array.strides) if axis not in arguments[0])
    return [replace(array, shape=layouts[0].shape, strides=strides)]


def _sliced(array: LaidOut, arguments: Sequence[Any], layouts: list[Layout]) -> list[LaidOut]:
    shape = layouts[0].shape
    steps = arguments[2] if len(arguments) > 2 else (1,) * len(shape)
    strides = tuple(stride * step for stride, step in zip(array.strides, steps, strict=True))
    filled = 1 + sum(abs(stride) * (size - 1) for stride, size in zip(strides, shape, strict=True))
    return [_with_strides(array, shape, strides, filled)]


def _split(array: LaidOut, arguments: Sequence[Any], layouts: list[Layout]) -> list[LaidOut]:
    return [_with_strides(array, layout.shape, array.strides, math.prod(layout.shape)) for layout in layouts]


def _reshaped(array: LaidOut, arguments: Sequence[Any], layouts: list[Layout]) -> list[LaidOut] | None:
    shape = layouts[0].shape
    if array.rows or array.size == 0:
        return [replace(whole(layouts[0], array.buffer), filled=array.filled)]
    merged: list[list[int]] = []
    for size, stride in zip(array.shape, array.strides, strict=True):
        if size == 1:
            continue
        if merged and merged[-1][1] == size * stride:
            merged[-1] = [merged[-1][0] * size, stride]
        else:
            merged.append([size, stride])
    strides: list[int] = []
    at = 0
    for size in shape:
        if at < len(merged) and merged[at][0] % size == 0:
            merged[at][0] //= size
            strides.append(merged[at][0] * merged[at][1])
            at += merged[at][0] == 1
        elif size == 1 and strides:
            strides.append(strides[-1])
        else:
            return None
    return [replace(array, shape=shape, strides=tuple(strides))]


def _viewed_as(array: LaidOut, arguments: Sequence[Any], layouts: list[Layout]) -> list[LaidOut] | None:
    layout = layouts[0]
    if array.item != layout.item_bytes and not array.rows:
        return None
    return (
        [replace(array, shape=layout.shape, item=layout.item_bytes)]
        if array.item == layout.item_bytes
        else [whole(layout, array.buffer)]
    )


def _contiguous(array: LaidOut, arguments: Sequence[Any], layouts: list[Layout]) -> list[LaidOut] | None:
    return [array] if array.rows else None


_View = Callable[[LaidOut, Sequence[Any], list[Layout]], list[LaidOut] | None]
_VIEWS: dict[str, _View] = {
    "Transpose": _transposed,
    "Broadcast": _broadcast,
    "BroadcastAxes": _broadcast,
    "ExpandDims": _expanded,
    "Squeeze": _squeezed,
    "Slice": _sliced,
    "Split": _split,
    "View": _viewed_as,
    "Contiguous": _contiguous,
    **dict.fromkeys(_RESHAPED, _reshaped),
}


def _with_strides(array: LaidOut, shape: tuple[int, ...], strides: tuple[int, ...], filled: int) -> LaidOut:
    """A view of an array, found to be in order or not."""
    rows = _in_order(shape[::-1], strides[::-1])
    columns = _in_order(shape, strides)
    used = math.prod(size for size, stride in zip(shape, strides, strict=True) if stride)
    return replace(array, shape=shape, strides=strides, filled=filled, dense=used == filled, rows=rows, columns=columns)


def _in_order(shape: Sequence[int], strides: Sequence[int]) -> bool:
    expected = 1
    for size, stride in zip(shape, strides, strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def is_multipliable(array: LaidOut, kind: str) -> bool:
    """Whether the matrices lie in memory as BLAS reads them."""
    if kind == "QuantizedMatmul":
        return array.rows
    (rows, columns), (down, across) = array.shape[-2:], array.strides[-2:]
    return (down == columns and across == 1) or (down == 1 and across == rows)
