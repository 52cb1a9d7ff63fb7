"""The operations that a training step would run, found without running them.

MLX builds its graph before it computes anything, and can hand the graph out as a list of operations with the shapes of
all they make. So what a step needs is read off the step itself: of any architecture, adapter and kernel, whatever they
become.

One kind of operation cannot be handed out: functions with gradients of their own (`mx.custom_function`,
`mx.checkpoint`). Where one is called, the graph is cut: holes stand for its outputs and for the gradients of its
arguments, both are computed beside, and in the graph that comes back each hole is what fills it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mlxdistill.errors import MlxDistillError
from mlxdistill.student import cpu_kernels


class GraphUnknown(MlxDistillError):
    """MLX cannot hand out what a model would compute."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A primitive of MLX's, with the names of the arrays that it reads and makes; `arguments` are MLX's own."""

    kind: str
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """Shape of an array, and bytes of one of its numbers."""

    shape: tuple[int, ...]
    item_bytes: int


@dataclass(frozen=True, slots=True)
class Graph:
    """Operations, and all arrays by name; those that no operation makes are there before.

    Attributes:
        given: the function's arguments, in order; `wanted`: its results.
    """

    operations: tuple[Operation, ...]
    arrays: dict[str, Layout]
    given: tuple[str, ...]
    wanted: tuple[str, ...]


def gradient_graph(
    loss: Callable[[Sequence[Any], Sequence[Any]], Any], weights: Sequence[Any], given: Sequence[Any]
) -> Graph:
    """What an evaluation of a loss and of its gradients by `weights` would run.

    Args:
        loss: a function of weights and of what is given to a number.
        weights, given: arrays, of which only shapes and types count.

    MLX's random state is another one afterwards. Raises GraphUnknown.
    """

    def step(cut: _Cut, given: Sequence[Any]) -> list[Any]:
        import mlx.core as mx

        with _cutting(cut):
            values, gradients = cut.differentiate(lambda *own: [loss(own, given)], weights, [mx.array(1.0)])
        return [*values, *gradients]

    dry = _Cut(None)
    step(dry, given)

    def handed_out(*arrays: Any) -> list[Any]:
        cut = _Cut(arrays[len(given) :])
        results = step(cut, arrays[: len(given)])
        return [*results, *(cut.filled[number] for number in range(len(dry.holes)))]

    return _handed_out(handed_out, [*given, *dry.holes], len(dry.holes))


def forward_graph(function: Callable[[Sequence[Any]], Sequence[Any]], given: Sequence[Any]) -> Graph:
    """What an evaluation of a function of arrays, to arrays, would run. Raises GraphUnknown."""

    def handed_out(*arrays: Any) -> Sequence[Any]:
        with _cutting(_Cut(None)):
            return function(arrays)

    return _handed_out(handed_out, given, 0)


def _handed_out(function: Callable[..., Any], given: Sequence[Any], holes: int) -> Graph:
    import mlx.core as mx

    events: list[dict[str, Any]] = []
    try:
        mx.export_function(events.append, function, *given)
    except (ValueError, RuntimeError) as error:
        message = f"what this model computes cannot be foreseen ({error})"
        raise GraphUnknown(message, hint="set train.batch_size to a number, and see whether it fits") from error
    finally:
        mx.random.seed(0)
    of_type = {event["type"]: event for event in events}
    arrays = {
        name: Layout(tuple(shape), dtype.size)
        for event in events
        if event["type"] in ("inputs", "primitive")
        for name, shape, dtype in (*event["inputs"], *event.get("outputs", ()))
    }
    results = [name for name, *_ in of_type["outputs"]["outputs"]]
    inputs = [name for name, *_ in of_type["inputs"]["inputs"]]
    filling = dict(zip(inputs[len(inputs) - holes :], results[len(results) - holes :], strict=True))

    def filled(name: str) -> str:
        while name in filling:
            name = filling[name]
        return name

    operations = tuple(
        Operation(
            event["name"],
            tuple(filled(name) for name, *_ in event["inputs"]),
            tuple(name for name, *_ in event["outputs"]),
            tuple(event["arguments"]),
        )
        for event in events
        if event["type"] == "primitive"
    )
    wanted = tuple(filled(name) for name in results[: len(results) - holes])
    return Graph(operations, arrays, tuple(inputs[: len(inputs) - holes]), wanted)


class _Custom:
    """Takes the place of `mx.custom_function`."""

    def __init__(self, cut: _Cut, function: Callable[..., Any]) -> None:
        self._cut = cut
        self.function = function
        self.rule: Callable[..., Any] | None = None

    def vjp(self, rule: Callable[..., Any]) -> _Custom:
        self.rule = rule
        return self

    def __call__(self, *arguments: Any) -> Any:
        return self._cut.call(self, arguments)


@dataclass(frozen=True, slots=True)
class _Call:
    custom: _Custom
    arguments: tuple[Any, ...]
    outputs: Any


class _Cut:
    """Differentiates around functions with gradients of their own.

    Args:
        holes: arrays to stand for what is filled in later, in the order in which they are needed; None to make them.

    Attributes:
        filled: what belongs into each of `holes`, by its number.
    """

    def __init__(self, holes: Sequence[Any] | None) -> None:
        self._given = holes
        self._called: list[Callable[[_Custom, tuple[Any, ...]], Any] | None] = []
        self.holes: list[Any] = []
        self.filled: dict[int, Any] = {}

    def call(self, custom: _Custom, arguments: tuple[Any, ...]) -> Any:
        called = self._called[-1] if self._called else None
        if called is None or custom.rule is None:
            return custom.function(*arguments)
        return called(custom, arguments)

    def checkpoint(self, function: Callable[..., Any]) -> _Custom:
        """As `mx.checkpoint`: the gradients run the function again, after its outputs are there."""
        import mlx.core as mx

        custom = _Custom(self, function)

        def rule(primals: Any, cotangents: Any, outputs: Any) -> Any:
            given = primals if isinstance(primals, tuple) else (primals,)
            again = mx.depends(_floats(given), _floats(outputs))
            _, gradients = self.differentiate(
                lambda *own: _floats(function(*_refilled(given, own))), again, _floats(cotangents)
            )
            return _refilled(primals, gradients)

        return custom.vjp(rule)

    def differentiate(
        self, function: Callable[..., list[Any]], primals: Sequence[Any], cotangents: Sequence[Any]
    ) -> tuple[list[Any], list[Any]]:
        """As `mx.vjp`."""
        import mlx.core as mx

        tried: list[_Call] = []

        def try_it(custom: _Custom, arguments: tuple[Any, ...]) -> Any:
            with self._calling(None):
                tried.append(_Call(custom, arguments, custom.function(*arguments)))
            return tried[-1].outputs

        with self._calling(try_it):
            count = len(function(*primals))
        outputs = [self._holes(_floats(call.outputs)) for call in tried]
        arriving = [self._holes(_floats(call.arguments)) for call in tried]
        standing = [self.holes[number] for numbers in outputs for number in numbers]
        calls: list[_Call] = []

        def run(*arrays: Any) -> list[Any]:
            left = iter(arrays[len(primals) :])
            calls.clear()

            def cut(custom: _Custom, arguments: tuple[Any, ...]) -> Any:
                mx.random.uniform()  # as the function might: or else those that follow would draw the same numbers
                calls.append(_Call(custom, arguments, None))
                return _refilled(tried[len(calls) - 1].outputs, left)

            with self._calling(cut):
                results = function(*arrays[: len(primals)])
            # In one more dimension, because `mx.vjp` skips what comes straight out of `stop_gradient`.
            return [*results, *(array[None] for call in calls for array in _floats(call.arguments))]

        values, gradients = mx.vjp(
            run,
            [*primals, *standing],
            [*cotangents, *(self.holes[number][None] for numbers in arriving for number in numbers)],
        )
        leaving = iter(gradients[len(primals) :])
        for call, shape, here, there in zip(calls, tried, outputs, arriving, strict=True):
            with self._calling(None):
                self._fill(here, _floats(call.custom.function(*call.arguments)))
            stood = _refilled(shape.outputs, [self.holes[number] for number in here])
            assert call.custom.rule is not None
            primal = call.arguments[0] if len(call.arguments) == 1 else call.arguments
            self._fill(there, _floats(call.custom.rule(primal, _refilled(shape.outputs, leaving), stood)))
        return values[:count], gradients[: len(primals)]

    def _holes(self, shapes: Sequence[Any]) -> list[int]:
        """Numbers of new holes."""
        import mlx.core as mx

        first = len(self.holes)
        for number, shape in enumerate(shapes, start=first):
            self.holes.append(mx.zeros(shape.shape, shape.dtype) if self._given is None else self._given[number])
        return list(range(first, len(self.holes)))

    def _fill(self, numbers: Sequence[int], arrays: Sequence[Any]) -> None:
        self.filled.update(zip(numbers, arrays, strict=True))

    @contextlib.contextmanager
    def _calling(self, called: Callable[[_Custom, tuple[Any, ...]], Any] | None) -> Iterator[None]:
        self._called.append(called)
        try:
            yield
        finally:
            self._called.pop()


@contextlib.contextmanager
def _cutting(cut: _Cut) -> Iterator[None]:
    import mlx.core

    module: Any = mlx.core
    kept = module.custom_function, module.checkpoint
    module.custom_function, module.checkpoint = functools.partial(_Custom, cut), cut.checkpoint
    _forget_kernels()
    try:
        yield
    finally:
        module.custom_function, module.checkpoint = kept
        _forget_kernels()


def _forget_kernels() -> None:
    """Functions with gradients of their own that were made before, to be made anew."""
    for value in vars(cpu_kernels).values():
        if hasattr(value, "cache_clear"):
            value.cache_clear()


def _is_float(leaf: Any) -> bool:
    import mlx.core as mx

    return isinstance(leaf, mx.array) and mx.issubdtype(leaf.dtype, mx.floating)


def _floats(tree: Any) -> list[Any]:
    """The floating-point arrays in it, in order."""
    from mlx.utils import tree_map

    found: list[Any] = []
    tree_map(lambda leaf: found.append(leaf) if _is_float(leaf) else None, tree)
    return found


def _refilled(tree: Any, arrays: Iterable[Any]) -> Any:
    """With other arrays in the places of the floating-point ones."""
    from mlx.utils import tree_map

    left = iter(arrays)
    return tree_map(lambda leaf: next(left) if _is_float(leaf) else leaf, tree)
