"""Faster exponentials, dropout, LoRA layers and rotations for MLX's CPU backend.

MLX computes `exp` on the CPU one number at a time, at 13 ns each, which makes softmax and SiLU half of a small model's
forward pass; its additions and multiplications take 0.2 ns. So here e^x is a polynomial times a power of two that is
written into the float's exponent (Schraudolph: A Fast, Compact Approximation of the Exponential Function, 1999, with a
polynomial for the remainder). It is off by 2e-7 near 0 and 4e-6 at the ends of its range, because float32 rounds
x log2(e).

Its random numbers cost as much, which made dropout a third of a training step. Here a hash of a counter and a key (the
finaliser of MurmurHash3, Appleby 2011) decides, a byte for each number.

Whatever is not a matrix product runs on one core, so passes over the activations are what is saved elsewhere: a LoRA
layer is one product with the sum of both weights instead of three and two passes more, with the gradients of the small
ones (Hu et al., LoRA, 2021, section 4.1, where the sum is for inference); rotary positions are a product with a signed
permutation instead of slices that are put together again.

Models are mlx-lm's, so the functions of theirs that spend the time are replaced: the gated activation, which their
modules import by name, MLX's attention, rotation and dropout, and mlx-lm's LoRA layer. Only ever called without Metal.
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
    """Replaces, in this process, mlx-lm's gated activation and LoRA layer, and MLX's attention, rotation and dropout.

    Other types than float32 go to the originals. Call before loading models.

    Also switches `mx.compile` off, which on the CPU would start a C++ compiler for every new shape.
    """
    import mlx.core as mx
    import mlx.nn as nn
    import mlx_lm.models.activations as activations
    from mlx_lm.tuner.lora import LoRALinear

    mx.disable_compile()
    if nn.Dropout.__call__ is not _dropout:
        _Original.dropout = nn.Dropout.__call__
        nn.Dropout.__call__ = _dropout
    if mx.fast.scaled_dot_product_attention is not _attention:
        _Original.attention = mx.fast.scaled_dot_product_attention
        mx.fast.scaled_dot_product_attention = _attention
    if mx.fast.rope is not _rope:
        _Original.rope = mx.fast.rope
        mx.fast.rope = _rope
    if LoRALinear.__call__ is not _lora:
        _Original.lora = LoRALinear.__call__
        LoRALinear.__call__ = _lora
    original = activations.swiglu
    if original is not _swiglu:
        _Original.swiglu = original
        for name, module in list(sys.modules.items()):
            if name.startswith("mlx_lm.models.") and getattr(module, "swiglu", None) is original:
                module.swiglu = _swiglu  # type: ignore[attr-defined]


class _Original:
    attention: Any = None
    dropout: Any = None
    lora: Any = None
    rope: Any = None
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
def _gated() -> Any:
    """silu(gate) x, and sigmoid(gate), which the gradient needs again."""
    import mlx.core as mx

    @mx.custom_function
    def gated(gate: Any, x: Any) -> Any:
        sigmoid = 1 / (1 + fast_exp(mx.minimum(-gate, -SMALLEST_EXPONENT)))
        return gate * sigmoid * x, sigmoid

    @gated.vjp
    def gated_vjp(inputs: Any, cotangents: Any, outputs: Any) -> Any:
        gate, x = inputs
        cotangent, sigmoid = cotangents[0], outputs[1]
        silu = gate * sigmoid
        return cotangent * x * (sigmoid + silu * (1 - sigmoid)), cotangent * silu

    return gated


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
    return _gated()(gate, x)[0]


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


@functools.cache
def _merged() -> Any:
    """x merged^T, with the gradients of a and b that merged = weight + (a b)^T has, and none of its own."""
    import mlx.core as mx

    @mx.custom_function
    def merged(x: Any, weight: Any, a: Any, b: Any) -> Any:
        return x @ weight.T

    @merged.vjp
    def merged_vjp(inputs: Any, cotangent: Any, output: Any) -> Any:
        x, weight, a, b = inputs
        rows, gradient = x.reshape(-1, x.shape[-1]), cotangent.reshape(-1, cotangent.shape[-1])
        return cotangent @ weight, mx.zeros_like(weight), rows.T @ (gradient @ b.T), (rows @ a).T @ gradient

    return merged


def _lora(layer: Any, x: Any) -> Any:
    import mlx.core as mx

    linear = layer.linear
    drops = layer.dropout.training and layer.dropout._p_1 < 1
    # Below as many positions as there are outputs, adding up the weights costs more than it saves.
    if drops or x.dtype != mx.float32 or linear.weight.dtype != mx.float32 or x.size < linear.weight.size:
        return _Original.lora(layer, x)
    b = layer.scale * layer.lora_b
    weight = mx.stop_gradient(linear.weight + (layer.lora_a @ b).T)
    y = _merged()(x, weight, layer.lora_a, b)
    return y + linear.bias if "bias" in linear else y


def _rope(
    a: Any,
    dims: int,
    *,
    traditional: bool,
    base: float | None,
    scale: float,
    offset: Any,
    freqs: Any = None,
    **how: Any,
) -> Any:
    """Rotary positions for [batch, heads, length, dims], as MLX's own."""
    import mlx.core as mx

    options = {"base": base, "scale": scale, "offset": offset, "freqs": freqs, **how}
    whole = a.ndim == 4 and a.shape[-1] == dims and a.dtype == mx.float32
    if not whole or traditional or not isinstance(offset, int):
        return _Original.rope(a, dims, traditional=traditional, **options)
    half = dims // 2
    ones, zeros, one = mx.ones((half,)), mx.zeros((half, half)), mx.eye(half)
    # What MLX makes of a pair (1, 0) at each position is its cosine and sine.
    pairs = mx.broadcast_to(mx.concatenate([ones, mx.zeros((half,))]), (1, 1, a.shape[2], dims))
    cosine, sine = mx.split(_Original.rope(pairs, dims, traditional=False, **options)[0, 0], 2, axis=-1)
    cosine, sine = (mx.concatenate([part, part], axis=-1)[:, None] for part in (cosine, sine))
    swapped = mx.concatenate([mx.concatenate([zeros, one], axis=1), mx.concatenate([-one, zeros], axis=1)])
    turned = a.swapaxes(1, 2)  # as it lay before heads were told apart, so that nothing is copied
    return (turned * cosine + (turned @ swapped) * sine).swapaxes(1, 2)


def _dropout(layer: Any, x: Any) -> Any:
    """Each number is zero with the layer's probability, to the nearest 1/256; the rest is scaled up by as much."""
    import mlx.core as mx

    if x.dtype != mx.float32:
        return _Original.dropout(layer, x)
    if layer._p_1 == 1 or not layer.training:
        return x
    dropped = min(max(round((1 - layer._p_1) * 256), 1), 255)
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
    mask = mask.reshape(*(1,) * (4 - mask.ndim), *mask.shape).swapaxes(-1, -2)
    if mask.shape[1] > 1:
        mask = mask.reshape(mask.shape[0], kv_heads, repeats, *mask.shape[2:])
        return mask.transpose(0, 1, 3, 2, 4)
    return mask[..., None, :]


def _causal(length: int, keys: int) -> Any:
    """[keys, 1, queries]: 0 where a query may look, hugely negative where not; the last query sees all keys."""
    import mlx.core as mx

    return mx.tril(mx.full((keys, length), MASKED), k=length - keys - 1)[:, None]
