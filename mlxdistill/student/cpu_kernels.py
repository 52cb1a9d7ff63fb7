"""Faster exponentials for MLX's CPU backend.

MLX computes `exp` on the CPU one number at a time, at 13 ns each, which makes softmax and SiLU the larger part of a small
model's step; its additions and multiplications take 0.2 ns. So here e^x is a polynomial of degree 6 times a power of two
that is written into the float's exponent (Schraudolph, A Fast, Compact Approximation of the Exponential Function,
1999, with the remainder by polynomial), within 1.2e-7 of the exact value, as exact as float32 is.

Models are mlx-lm's, so its two functions that spend the time are replaced: the gated activation, which its model modules import
by name, and MLX's attention. Only ever called without Metal.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

LOG2_E = 1.4426950408889634
SMALLEST_EXPONENT = -87.0
# Adding 1.5 * 2^23 to a float32 rounds it to an integer, which then stands in its low bits.
ROUNDER = 12582912.0
# 2^f on [-0.5, 0.5], Taylor's coefficients of f ln 2 from the sixth down, adjusted to the least largest error.
COEFFICIENTS = (1.5353362e-4, 1.3398874e-3, 9.6184370e-3, 5.5503324e-2, 2.4022648e-1, 6.9314718e-1, 1.0)


def use_fast_exponentials() -> None:
    """Replaces, in this process, mlx-lm's gated activation and MLX's attention for float32. Call before loading models.

    Also switches `mx.compile` off, which on the CPU would start a C++ compiler for every new shape.
    """
    import mlx.core as mx
    import mlx_lm.models.activations as activations

    mx.disable_compile()
    if mx.fast.scaled_dot_product_attention is not _attention:
        _Original.attention = mx.fast.scaled_dot_product_attention
        mx.fast.scaled_dot_product_attention = _attention
    original = activations.swiglu
    if original is not _swiglu:
        _Original.swiglu = original
        for name, module in list(sys.modules.items()):
            if name.startswith("mlx_lm.models.") and getattr(module, "swiglu", None) is original:
                module.swiglu = _swiglu  # type: ignore[attr-defined]


class _Original:
    attention: Any = None
    swiglu: Any = None


def fast_exp(x: Any) -> Any:
    """e^x of float32 x, at most 88; below -87 it stays at e^-87, which is 1e-38."""
    import mlx.core as mx

    scaled = mx.maximum(x, SMALLEST_EXPONENT) * LOG2_E
    rounded = scaled + ROUNDER
    fraction = scaled - (rounded - ROUNDER)
    power = fraction * COEFFICIENTS[0] + COEFFICIENTS[1]
    for coefficient in COEFFICIENTS[2:]:
        power = power * fraction + coefficient
    return mx.view(mx.view(power, mx.int32) + mx.left_shift(mx.view(rounded, mx.int32), 23), mx.float32)


@functools.cache
def _sigmoid() -> Any:
    import mlx.core as mx

    @mx.custom_function
    def sigmoid(x: Any) -> Any:
        return 1 / (1 + fast_exp(mx.minimum(-x, -SMALLEST_EXPONENT)))

    @sigmoid.vjp
    def sigmoid_vjp(x: Any, cotangent: Any, output: Any) -> Any:
        return cotangent * output * (1 - output)

    return sigmoid


@functools.cache
def _softmax() -> Any:
    import mlx.core as mx

    @mx.custom_function
    def softmax(x: Any) -> Any:
        exponentials = fast_exp(x - mx.max(x, axis=-1, keepdims=True))
        return exponentials / mx.sum(exponentials, axis=-1, keepdims=True)

    @softmax.vjp
    def softmax_vjp(x: Any, cotangent: Any, output: Any) -> Any:
        weighted = cotangent * output
        return weighted - output * mx.sum(weighted, axis=-1, keepdims=True)

    return softmax


def _swiglu(gate: Any, x: Any) -> Any:
    import mlx.core as mx

    if gate.dtype != mx.float32:
        return _Original.swiglu(gate, x)
    return gate * _sigmoid()(gate) * x


def _attention(q: Any, k: Any, v: Any, *, scale: float, mask: Any = None, sinks: Any = None, **options: Any) -> Any:
    """softmax(q k^T scale + mask) v, for [batch, heads, length, width] with fewer heads of keys and values."""
    import mlx.core as mx

    if q.dtype != mx.float32 or sinks is not None or options:
        return _Original.attention(q, k, v, scale=scale, mask=mask, sinks=sinks, **options)
    batch, heads, length, width = q.shape
    kv_heads, repeats = k.shape[1], q.shape[1] // k.shape[1]
    queries = (q * scale).reshape(batch, kv_heads, repeats * length, width)
    scores = (queries @ k.swapaxes(-1, -2)).reshape(batch, kv_heads, repeats, length, -1)
    if isinstance(mask, str):
        scores = scores + _causal(length, k.shape[2])
    elif mask is not None:
        if mask.ndim == 4:
            parted = mask.shape[1] == heads and heads > 1
            mask = mask.reshape(batch, kv_heads, repeats, *mask.shape[2:]) if parted else mask[:, :, None]
        scores = mx.where(mask, scores, -1e30) if mask.dtype == mx.bool_ else scores + mask
    weights = _softmax()(scores).reshape(batch, kv_heads, repeats * length, -1)
    return (weights @ v).reshape(batch, heads, length, v.shape[-1])


def _causal(length: int, keys: int) -> Any:
    """0 where a query may look, -1e30 where not; the last query sees all keys."""
    import mlx.core as mx

    return mx.triu(mx.full((length, keys), -1e30), k=keys - length + 1)
