"""Gradient checkpointing: a layer's insides are computed a second time instead of being kept.

Between the two passes of a training step a model keeps everything its layers computed, which for long rows is most of
the memory. Here only what goes into each layer is kept (Chen et al.: Training Deep Nets with Sublinear Memory Cost,
2016), and the layer runs again when its gradients are wanted. `mx.checkpoint` does that for a function of arrays, and
knows nothing of what else a layer reads and writes. So each call of a layer is made such a function: the keys and
values in its cache go in and come out as arrays, and both runs draw their random numbers from one key, without which
dropout's gradients would belong to another mask.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

DRAWS = ("bernoulli", "normal", "randint", "uniform")


def recompute_layers(model: Any) -> None:
    """From here on, this model's layers keep only their inputs while it trains.

    Other models of the same class stay as they are, and so does this one in evaluation.
    """
    kinds: dict[type, type] = {}
    for layer in {id(layer): layer for layer in model.layers}.values():
        kind = type(layer)
        if kind not in kinds:
            kinds[kind] = type(kind.__name__, (kind,), {"__call__": _recomputed(kind)})
        layer.__class__ = kinds[kind]


def _recomputed(kind: type) -> Callable[..., Any]:
    run_layer: Callable[..., Any] = kind.__call__

    def call(layer: Any, *arguments: Any, **options: Any) -> Any:
        import mlx.core as mx

        if not layer.training:
            return run_layer(layer, *arguments, **options)
        key = mx.random.randint(0, 2**31 - 1, (2,)).astype(mx.uint32)
        inputs: list[Any] = []

        def keep(array: Any) -> Any:
            inputs.append(array)
            return array

        # The caches themselves have changed when the layer runs again.
        called = _mapped((arguments, options), keep)

        def run(weights: Any, inputs: list[Any]) -> tuple[Any, list[dict[str, Any]]]:
            left = iter(inputs)
            given, named = _mapped(called, lambda _: next(left))
            caches = _caches(given, named)
            before = [dict(vars(cache)) for cache in caches]
            own = layer.trainable_parameters()
            layer.update(weights)
            try:
                with _drawing_from(key):
                    output = run_layer(layer, *given, **named)
            finally:
                layer.update(own)
            return output, [_changes(old, vars(cache)) for old, cache in zip(before, caches, strict=True)]

        output, changes = mx.checkpoint(run)(layer.trainable_parameters(), inputs)
        for cache, changed in zip(_caches(arguments, options), changes, strict=True):
            vars(cache).update(changed)
        return output

    return call


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """A copy with every floating-point array changed, those of caches and of caches within them too.

    Masks and offsets have no gradients, and stay as they are.
    """
    import mlx.core as mx

    if isinstance(value, mx.array):
        return change(value) if mx.issubdtype(value.dtype, mx.floating) else value
    if type(value) in (tuple, list):
        return type(value)(_mapped(part, change) for part in value)
    if type(value) is dict:
        return {name: _mapped(part, change) for name, part in value.items()}
    if _is_cache(value):
        copied = copy.copy(value)
        vars(copied).update(_mapped(vars(value), change))
        return copied
    return value


def _caches(arguments: Any, options: Any) -> list[Any]:
    return [value for value in (*arguments, *options.values()) if _is_cache(value)]


def _is_cache(value: Any) -> bool:
    return hasattr(value, "update_and_fetch")


def _changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in after.items() if value is not before.get(name)}


@contextlib.contextmanager
def _drawing_from(key: Any) -> Iterator[None]:
    """Meanwhile random numbers follow from `key`, draw after draw. MLX's own state cannot be set to what it was."""
    import mlx.core as mx

    def keyed(draw: Callable[..., Any]) -> Callable[..., Any]:
        def drawn(*arguments: Any, **options: Any) -> Any:
            nonlocal key
            key, own = mx.random.split(key)
            return draw(*arguments, **{**options, "key": own})

        return drawn

    originals = {name: getattr(mx.random, name) for name in DRAWS}
    for name, draw in originals.items():
        setattr(mx.random, name, keyed(draw))
    try:
        yield
    finally:
        for name, draw in originals.items():
            setattr(mx.random, name, draw)
