"""The fast exponentials are exact to float32, in values and gradients, for every kind of mask; dropout drops;
LoRA layers and rotations compute what mlx-lm's and MLX's own do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from mlxdistill.student import cpu_kernels


@pytest.fixture
def fast() -> Iterator[Any]:
    """MLX's own attention, while ours is in its place."""
    import mlx.core as mx
    import mlx.nn as nn
    from mlx_lm.tuner.lora import LoRALinear

    before, dropout = mx.fast.scaled_dot_product_attention, nn.Dropout.__call__
    rope, lora = mx.fast.rope, LoRALinear.__call__
    original = cpu_kernels._Original.attention or before
    cpu_kernels.use_cpu_kernels()
    yield original
    mx.fast.scaled_dot_product_attention, nn.Dropout.__call__ = before, dropout
    mx.fast.rope, LoRALinear.__call__ = rope, lora


def test_exponentials_are_exact_to_float32() -> None:
    import mlx.core as mx

    given = np.concatenate([np.linspace(-87, 88, 200_001), np.linspace(-1e-3, 1e-3, 1001)]).astype(np.float32)
    found = np.array(cpu_kernels.fast_exp(mx.array(given)), np.float64)
    exact = np.exp(given.astype(np.float64))
    # x log2(e) is rounded to some 6e-8 of its size, which no polynomial can mend.
    assert (np.abs(found / exact - 1) - 8e-8 * np.abs(given)).max() < 3e-7
    assert np.array(cpu_kernels.fast_exp(mx.array([-1e30, -np.inf]))).max() < 1e-37


def test_the_gated_activation_keeps_its_gradients(fast: Any) -> None:
    import mlx.core as mx
    import mlx.nn as nn

    gate, x = mx.random.normal((5, 7)) * 20, mx.random.normal((5, 7))
    expected = mx.value_and_grad(lambda g, y: (nn.silu(g) * y).sum(), argnums=(0, 1))(gate, x)
    found = mx.value_and_grad(lambda g, y: cpu_kernels._swiglu(g, y).sum(), argnums=(0, 1))(gate, x)
    assert found[0].item() == pytest.approx(expected[0].item(), rel=1e-5)
    for one, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(np.array(one), np.array(other), rtol=2e-5, atol=1e-5)
    assert np.isfinite(np.array(cpu_kernels._swiglu(mx.array([-500.0, 500.0]), mx.ones(2)))).all()


@pytest.mark.parametrize("kv_heads", [1, 2, 6])
@pytest.mark.parametrize("kind", ["none", "causal", "bool", "rows", "heads", "added", "keys", "one row's heads"])
@pytest.mark.parametrize("keys", [8, 13])
def test_attention_keeps_its_values_and_gradients(fast: Any, kv_heads: int, kind: str, keys: int) -> None:
    import mlx.core as mx

    mx.random.seed(kv_heads)
    q, k, v = (
        mx.random.normal((2, heads, length, 4)) for heads, length in ((6, 8), (kv_heads, keys), (kv_heads, keys))
    )
    allowed = mx.random.uniform(shape=(2, 6, 8, keys)) < 0.6
    allowed = mx.logical_or(allowed, mx.arange(keys) == 0)
    mask = {
        "none": None,
        "causal": "causal",
        "bool": allowed[0, 0],
        "rows": allowed[:, :1],
        "heads": allowed,
        "added": mx.random.normal((8, keys)),
        "keys": allowed[0, 0, 0],
        "one row's heads": allowed[0],
    }[kind]

    def loss(attention: Any, *inputs: Any) -> Any:
        out = attention(*inputs, scale=0.3, mask=mask)
        return (out * mx.arange(out.size).reshape(out.shape)).sum()

    ours = mx.fast.scaled_dot_product_attention
    assert ours is not fast
    expected = mx.value_and_grad(lambda *inputs: loss(fast, *inputs), argnums=(0, 1, 2))(q, k, v)
    found = mx.value_and_grad(lambda *inputs: loss(ours, *inputs), argnums=(0, 1, 2))(q, k, v)
    assert found[0].item() == pytest.approx(expected[0].item(), rel=1e-4, abs=1e-2)
    for one, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(np.array(one), np.array(other), rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("probability", [0.02, 0.1, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(fast: Any, probability: float) -> None:
    import mlx.core as mx
    import mlx.nn as nn

    layer, x = nn.Dropout(probability), mx.ones((499, 1001))
    mx.random.seed(3)
    found, other = np.array(layer(x)), np.array(layer(x))
    dropped = round(probability * 256) / 256
    assert (found == 0).mean() == pytest.approx(dropped, abs=4 * (dropped / x.size) ** 0.5)
    assert set(np.unique(found)) == {0, np.float32(1 / (1 - dropped))}
    # Neighbours, rows and calls drop independently of one another.
    both = dropped**2
    for one, two in ((found[:, 1:], found[:, :-1]), (found[1:], found[:-1]), (found, other)):
        assert ((one == 0) & (two == 0)).mean() == pytest.approx(both, abs=5 * (both / x.size) ** 0.5)
    mx.random.seed(3)
    np.testing.assert_array_equal(np.array(layer(x)), found)
    layer.eval()
    assert layer(x) is x


def test_dropout_drops_the_same_of_the_gradient(fast: Any) -> None:
    import mlx.core as mx
    import mlx.nn as nn

    layer, x = nn.Dropout(0.3), mx.random.normal((7, 33))
    mx.random.seed(1)
    kept = np.array(layer(mx.ones_like(x)))
    mx.random.seed(1)
    np.testing.assert_array_equal(np.array(mx.grad(lambda y: layer(y).sum())(x)), kept)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [2, 40])  # fewer positions than outputs, and more
def test_lora_layers_keep_their_values_and_gradients(fast: Any, bias: bool, rows: int) -> None:
    import mlx.core as mx
    import mlx.nn as nn
    from mlx_lm.tuner.lora import LoRALinear

    mx.random.seed(rows)
    layer = LoRALinear.from_base(nn.Linear(7, 20, bias=bias), r=3, scale=4.0)
    layer.linear.freeze()
    layer.lora_b = mx.random.normal(layer.lora_b.shape)
    x = mx.random.normal((rows // 2, 3, 7))

    def loss(call: Any, weights: Any, given: Any) -> Any:
        layer.update(weights)
        out = call(layer, given)
        return (out * mx.cos(mx.arange(out.size)).reshape(out.shape)).sum()

    weights = {name: layer[name] for name in ("lora_a", "lora_b")}
    called = []

    def counted(*given: Any) -> Any:
        called.append(given)
        return merged(*given)

    merged = cpu_kernels._merged()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cpu_kernels, "_merged", lambda: counted)
        expected, found = (
            mx.value_and_grad(lambda *given, call=call: loss(call, *given), argnums=(0, 1))(weights, x)
            for call in (cpu_kernels._Original.lora, cpu_kernels._lora)
        )
        assert len(called) == (rows == 40)
    assert found[0].item() == pytest.approx(expected[0].item(), rel=1e-4, abs=1e-4)
    for one, other in [*((found[1][0][name], expected[1][0][name]) for name in weights), (found[1][1], expected[1][1])]:
        np.testing.assert_allclose(np.array(one), np.array(other), rtol=1e-4, atol=1e-4)


def test_lora_layers_that_drop_are_not_summed(fast: Any) -> None:
    import mlx.core as mx
    import mlx.nn as nn
    from mlx_lm.tuner.lora import LoRALinear

    layer = LoRALinear.from_base(nn.Linear(4, 4), r=2, dropout=0.5)
    layer.lora_b = mx.random.normal(layer.lora_b.shape)
    x = mx.random.normal((50, 4))
    assert not np.allclose(np.array(layer(x)), np.array(layer(x)))
    layer.eval()
    np.testing.assert_array_equal(np.array(layer(x)), np.array(layer(x)))
    np.testing.assert_allclose(np.array(layer(x)), np.array(cpu_kernels._Original.lora(layer, x)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "how",
    [
        {"base": 10000.0, "scale": 1.0, "offset": 0},
        {"base": 500.0, "scale": 0.5, "offset": 37},
        {"base": None, "scale": 1.0, "offset": 3, "freqs": [1.0, 5.0, 70.0]},
        {"base": 10000.0, "scale": 1.0, "offset": [2, 9]},
        {"base": 10000.0, "scale": 1.0, "offset": 1, "traditional": True},
        {"base": 10000.0, "scale": 1.0, "offset": 1, "dims": 4},
    ],
)
def test_rotations_keep_their_values_and_gradients(fast: Any, how: dict[str, Any]) -> None:
    import mlx.core as mx

    options = {"traditional": False, "dims": 6, **how}
    options |= {name: mx.array(value) for name, value in options.items() if isinstance(value, list)}
    x, weights = mx.random.normal((2, 3, 11, 6)), mx.random.normal((2, 3, 11, 6))
    expected, found = (
        mx.value_and_grad(lambda given, call=call: (call(given, **options) * weights).sum())(x)
        for call in (cpu_kernels._Original.rope, mx.fast.rope)
    )
    assert mx.fast.rope is cpu_kernels._rope
    assert found[0].item() == pytest.approx(expected[0].item(), rel=1e-4, abs=1e-4)
    np.testing.assert_allclose(np.array(found[1]), np.array(expected[1]), rtol=1e-5, atol=1e-5)
