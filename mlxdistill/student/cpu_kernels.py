"""Faster exponentials and dropout for MLX's CPU backend.

MLX computes `exp` on the CPU one number at a time, at 13 ns each, which makes softmax and SiLU half of a small model's
forward pass; its additions and multiplications take 0.2 ns. So here e^x is a polynomial times a power of two that is
written into the float's exponent (Schraudolph: A Fast, Compact Approximation of the Exponential Function, 1999, with a
polynomial for the remainder). It is off by 2e-7 near 0 and 4e-6 at the ends of its range, because float32 rounds
x log2(e).

Its random numbers cost as much, which made dropout a third of a training step. Here a hash of a counter and a key (the
finaliser of MurmurHash3, Appleby 2011) decides, a byte for each number.

Models are mlx-lm's, so the functions of theirs that spend the time are replaced: the gated activation, which their
modules import by name, MLX's attention and its dropout. Only ever called without Metal.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

LOG2_E = 1.4426950408889634
SMALLEST_EXPONENT = -87.0
# Adding 1.5 * 2^23 to a float32 rounds it to an integer, which then stands in its low bits.
ROUNDER = 12582912.0
# 2^f on [-0.5, 0.5] with the least largest relative error (7.5e-8), from the fifth power down.
COEFFICIENTS = (1.3276472e-3, 9.6755415e-3, 5.5507133e-2, 2.4022120e-1, 6.9314697e-1, 1.00000007)
MASKED = -1e30
HASH_FACTORS = (0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35)


def use_cpu_kernels() -> None:
    """Replaces, in this process, mlx-lm's gated activation and MLX's attention and dropout for float32.

    Call before loading models.

    Also switches `mx.compile` off, which on the CPU would start a C++ compiler for every new shape.
    """
    import mlx.core as mx
    import mlx.nn as nn
    import mlx_lm.models.activations as activations

    mx.disable_compile()
    if nn.Dropout.__call__ is not _dropout:
        _Original.dropout = nn.Dropout.__call__
        nn.Dropout.__call__ = _dropout
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
    dropout: Any = None
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
def _exp() -> Any:
    import mlx.core as mx

    exp = mx.custom_function(fast_exp)

    @exp.vjp
    def exp_vjp(x: Any, cotangent: Any, output: Any) -> Any:
        return cotangent * output

    return exp


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
    kv_heads, repeats, keys = k.shape[1], heads // k.shape[1], k.shape[2]
    queries = (q * scale).reshape(batch, kv_heads, repeats * length, width)
    # Keys run down the columns, because MLX reduces over rows of a matrix six times faster than along them.
    scores = (k @ queries.swapaxes(-1, -2)).reshape(batch, kv_heads, keys, repeats, length)
    if isinstance(mask, str):
        scores = scores + _causal(length, keys)
    elif mask is not None:
        turned = _turned(mask, kv_heads, repeats)
        scores = mx.where(turned, scores, MASKED) if mask.dtype == mx.bool_ else scores + turned
    exponentials = _exp()(scores - mx.stop_gradient(mx.max(scores, axis=2, keepdims=True)))
    totals = mx.sum(exponentials, axis=2).reshape(batch, kv_heads, repeats * length, 1)
    weights = exponentials.reshape(batch, kv_heads, keys, repeats * length).swapaxes(-1, -2)
    return (weights @ v / totals).reshape(batch, heads, length, v.shape[-1])


def _dropout(layer: Any, x: Any) -> Any:
    """Each number is zero with the layer's probability, to the nearest 1/256; the rest is scaled up by as much."""
    import mlx.core as mx

    if x.dtype != mx.float32:
        return _Original.dropout(layer, x)
    dropped = round((1 - layer._p_1) * 256)
    if dropped == 0 or not layer.training:
        return x
    kept = _random_bytes(x.size).reshape(x.shape) >= dropped
    return x * (kept.astype(mx.float32) * (256 / (256 - dropped)))


def _random_bytes(count: int) -> Any:
    """uint8 [count] that follow from MLX's random state, which moves on."""
    import mlx.core as mx

    first, second, third = (mx.array(factor, mx.uint32) for factor in HASH_FACTORS)
    key = mx.random.randint(0, 2**31 - 1, (1,)).astype(mx.uint32)
    mixed = mx.arange(-(-count // 4), dtype=mx.uint32) * first + key
    mixed = (mixed ^ mx.right_shift(mixed, 16)) * second
    mixed = (mixed ^ mx.right_shift(mixed, 13)) * third
    return mx.view(mixed ^ mx.right_shift(mixed, 16), mx.uint8)[:count]


def _turned(mask: Any, kv_heads: int, repeats: int) -> Any:
    """A mask [..., queries, keys] as it applies to scores [batch, kv_heads, keys, repeats, queries]."""
    mask = mask.swapaxes(-1, -2)
    if mask.ndim == 4 and mask.shape[1] > 1:
        mask = mask.reshape(mask.shape[0], kv_heads, repeats, *mask.shape[2:])
        return mask.transpose(0, 1, 3, 2, 4)
    return mask[..., None, :]


def _causal(length: int, keys: int) -> Any:
    """[keys, 1, queries]: 0 where a query may look, hugely negative where not; the last query sees all keys."""
    import mlx.core as mx

    return mx.tril(mx.full((keys, length), MASKED), k=length - keys - 1)[:, None]
