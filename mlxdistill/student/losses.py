"""The loss of a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlxdistill.student.head import SupervisedHead
from mlxdistill.student.targets import TargetBatch


@dataclass(frozen=True, slots=True)
class Arrays:
    """A `TargetBatch` as MLX arrays."""

    inputs: Any
    positions: Any
    tokens: Any
    target: Any
    weights: Any


def arrays(batch: TargetBatch) -> Arrays:
    import mlx.core as mx

    return Arrays(
        *(mx.array(part) for part in (batch.inputs, batch.positions, batch.tokens, batch.target, batch.weights))
    )


def position_losses(logits: Any, tokens: Any, target: Any) -> Any:
    """Cross entropy of each position's target distribution: float32 [S] from logits [S, vocabulary].

    The log-softmax runs over the whole vocabulary; the target is zero outside `tokens` [S, K].
    """
    import mlx.core as mx

    chosen = mx.take_along_axis(logits, tokens, axis=-1)
    return mx.logsumexp(logits, axis=-1) - mx.sum(target * chosen, axis=-1)


def batch_loss(head: SupervisedHead, batch: Arrays) -> Any:
    """The mean loss over the batch's supervised positions, by their weights."""
    import mlx.core as mx

    losses = position_losses(head(batch.inputs, batch.positions), batch.tokens, batch.target)
    return mx.sum(losses * batch.weights) / mx.sum(batch.weights)


def gradient_function(model: Any, head: SupervisedHead, *, compiled: bool) -> Callable[[Arrays], tuple[Any, Any]]:
    """A function from a batch to its loss and the gradients of the model's trainable weights.

    `compiled` pays on Metal; on the CPU every new shape would wait seconds for a C++ compiler.
    """
    import mlx.core as mx
    import mlx.nn as nn

    def loss(*parts: Any) -> Any:
        return batch_loss(head, Arrays(*parts))

    step = nn.value_and_grad(model, loss)
    if compiled:
        # What a compiled function reads but is not given would be frozen at its first value.
        step = mx.compile(step, inputs=[model.state, mx.random.state], outputs=[mx.random.state])

    def gradients(batch: Arrays) -> tuple[Any, Any]:
        found: tuple[Any, Any] = step(batch.inputs, batch.positions, batch.tokens, batch.target, batch.weights)
        return found

    return gradients
