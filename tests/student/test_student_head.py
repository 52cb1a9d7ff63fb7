"""The head at supervised positions gives what the whole model gives there, and the same gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_students import SHAPES

from mlxdistill.config.models import LoraConfig
from mlxdistill.platform.metal import has_metal
from mlxdistill.student.adapter import add_adapter
from mlxdistill.student.base import load_base
from mlxdistill.student.head import SupervisedHead
from mlxdistill.student.losses import Arrays, gradient_function
from mlxdistill.student.prefix import SharedPrefix

ModelFolder = Callable[[str], Path]


def batch(seed: int = 0) -> Arrays:
    import mlx.core as mx

    chance = np.random.default_rng(seed)
    return Arrays(
        inputs=mx.array(chance.integers(1, 300, (3, 16)), mx.int32),
        positions=mx.array([3, 9, 20, 21, 47], mx.int32),
        tokens=mx.array(chance.integers(1, 300, (5, 3)), mx.int32),
        target=mx.array(chance.dirichlet([1, 1, 1], 5).astype(np.float32)),
        weights=mx.array([1.0, 1.0, 0.5, 2.0, 1.0]),
    )


def reference_loss(model: Any, given: Arrays) -> Any:
    """Log-softmax over all logits, a dense target distribution, everything written out."""
    import mlx.core as mx

    logits = model(given.inputs)
    logits = logits.reshape(-1, logits.shape[-1])
    logarithms = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    total = mx.array(0.0)
    for number in range(5):
        row = logarithms[given.positions[number]]
        cross = -sum((given.target[number, k] * row[given.tokens[number, k]] for k in range(3)), mx.array(0.0))
        total = total + given.weights[number] * cross
    return total / mx.sum(given.weights)


@pytest.mark.parametrize("kind", SHAPES)
def test_loss_and_gradients_are_those_of_full_logits(model_folder: ModelFolder, kind: str) -> None:
    check_gradients(model_folder(kind), compiled=False)


@pytest.mark.metal
@pytest.mark.skipif(not has_metal(), reason="on the CPU, compiling a training step takes most of a minute")
def test_a_compiled_step_gives_the_same(model_folder: ModelFolder) -> None:
    check_gradients(model_folder("llama"), compiled=True)


def check_gradients(folder: Path, *, compiled: bool) -> None:
    import mlx.core as mx
    import mlx.nn as nn
    from mlx.utils import tree_flatten

    model = load_base(str(folder)).model
    add_adapter(model, "lora", LoraConfig(rank=4), seed=3)
    for name, value in tree_flatten(model.trainable_parameters()):
        # With lora_b at its initial zero the gradient of lora_a would be zero everywhere.
        model.load_weights([(name, value + 0.02 * mx.random.normal(value.shape))], strict=False)
    expected_loss, expected = nn.value_and_grad(model, reference_loss)(model, batch())
    head = SupervisedHead(model)
    assert head.partial
    loss, gradients = gradient_function(model, head, SharedPrefix(head, 2, ()), compiled=compiled)(batch(), 5.5)
    assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-5)
    found = dict(tree_flatten(gradients))
    largest = max(float(np.abs(np.array(value)).max()) for _, value in tree_flatten(expected))
    assert set(found) == {name for name, _ in tree_flatten(expected)}
    for name, value in tree_flatten(expected):
        np.testing.assert_allclose(np.array(found[name]), np.array(value), rtol=1e-4, atol=1e-5 * largest)
    assert largest > 1e-4


def test_a_body_that_cannot_hand_on_positions_falls_back_to_all_logits(model_folder: ModelFolder) -> None:
    import mlx.core as mx

    model = load_base(str(model_folder("llama"))).model
    expected = SupervisedHead(model)(batch().inputs, batch().positions)
    original = type(model.model)

    class Positional(original):  # type: ignore[misc, valid-type]
        """Returns more than states, as some architectures' bodies do."""

        def __call__(self, *arguments: Any, **options: Any) -> Any:
            return [super().__call__(*arguments, **options)]

    class Unpacking(type(model)):  # type: ignore[misc]
        def __call__(self, inputs: Any, cache: Any = None) -> Any:
            return self.model.embed_tokens.as_linear(self.model(inputs, cache)[0])

    model.model.__class__ = Positional
    model.__class__ = Unpacking
    head = SupervisedHead(model)
    assert not head.partial
    assert type(model.model) is Positional
    assert mx.allclose(head(batch().inputs, batch().positions), expected, atol=1e-5)
