"""The loss, and its gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlxdistill.student.head import SupervisedHead
from mlxdistill.student.prefix import SharedPrefix, go_on
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


def loss_share(head: SupervisedHead, prefix: SharedPrefix, batch: Arrays, total: Any) -> Any:
    """A batch's share of the loss of its step, whose supervised positions weigh `total` together."""
    import mlx.core as mx

    logits = head(batch.inputs, batch.positions, go_on(prefix.run()))
    return mx.sum(position_losses(logits, batch.tokens, batch.target) * batch.weights) / total


def watched_loss_share(head: SupervisedHead, prefix: SharedPrefix, batch: Arrays, total: Any) -> tuple[Any, Any, Any]:
    """As `loss_share`, with each position's loss [S], and the logits [S, K] of the tokens that may follow there."""
    import mlx.core as mx

    logits = head(batch.inputs, batch.positions, go_on(prefix.run()))
    losses = position_losses(logits, batch.tokens, batch.target)
    return mx.sum(losses * batch.weights) / total, losses, mx.take_along_axis(logits, batch.tokens, axis=-1)


def gradient_function(
    model: Any, head: SupervisedHead, prefix: SharedPrefix, *, compiled: bool, watched: bool = False
) -> Callable[[Arrays, float], tuple[Any, Any]]:
    """A function from a batch, and the weight of the whole step it is a part of, to its share of the step's loss and of
    the gradients of the model's trainable weights: shares of one step add up.

    With `watched` the first of them is all that `watched_loss_share` returns.

    `compiled` pays on Metal; on the CPU every new shape would wait seconds for a C++ compiler.
    """
    import mlx.core as mx
    import mlx.nn as nn

    def loss(total: Any, *given: Any) -> Any:
        share = watched_loss_share if watched else loss_share
        return share(head, prefix, Arrays(*given), total)

    share = nn.value_and_grad(model, loss)
    if compiled:
        # What a compiled function reads but is not given would be frozen at its first value; what it changes but does
        # not give back stays a placeholder, and taking gradients changes the model's weights for the moment.
        state = [model.state, mx.random.state]
        share = mx.compile(share, inputs=state, outputs=state)

    def gradients(batch: Arrays, total: float) -> tuple[Any, Any]:
        given = (batch.inputs, batch.positions, batch.tokens, batch.target, batch.weights)
        found: tuple[Any, Any] = share(mx.array(total), *given)
        return found

    return gradients
