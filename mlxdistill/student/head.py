"""The language model's head, at the positions that need it.

A head turns each position's hidden state into one number per token of the vocabulary, which for a small student is most
of the work and memory of a step, and is wanted at a handful of positions per row. Models differ in what their head does
(tied or not, scaled, capped), so none of it is written anew: the transformer body is made to hand on the wanted
positions only, and the model's own code does the rest. Whether that gives the same logits is tried once at opening;
where it does not, logits are computed everywhere and the wanted ones picked.
"""

from __future__ import annotations

from typing import Any

PROBE_TOLERANCE = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 5e-2}


class SupervisedHead:
    """Logits of a model at chosen positions.

    Attributes:
        partial: whether the head is applied to the chosen positions only.
        dtype: of the model's own logits.
    """

    def __init__(self, model: Any) -> None:
        import mlx.core as mx

        self._model = model
        self._wanted: list[Any] = []
        self.dtype = model(mx.array([[1]], mx.int32)).dtype
        body = transformer_body(model)
        self.partial = body is not None
        if body is not None:
            original = type(body)
            _hand_on(body, self._wanted)
            self.partial = self._probe()
            if not self.partial:
                body.__class__ = original

    def __call__(self, inputs: Any, positions: Any, cache: Any = None) -> Any:
        """float32 [S, vocabulary].

        Args:
            inputs: int [rows, length].
            positions: int [S], into the flattened inputs.
            cache: one key-value cache per layer, for inputs that go on from earlier ones.
        """
        import mlx.core as mx

        arguments = {} if cache is None else {"cache": cache}
        if not self.partial:
            logits = self._model(inputs, **arguments)
            return logits.reshape(-1, logits.shape[-1])[positions].astype(mx.float32)
        self._wanted.append(positions)
        try:
            return self._model(inputs, **arguments)[0].astype(mx.float32)
        finally:
            self._wanted.pop()

    def run_body(self, inputs: Any, cache: Any) -> None:
        """A pass whose keys and values are wanted, not its logits; those are never evaluated."""
        self._model(inputs, cache=cache)

    def _probe(self) -> bool:
        import mlx.core as mx

        inputs = mx.array([[1, 2, 3, 4], [4, 3, 2, 1]], mx.int32)
        positions = mx.array([1, 3, 6], mx.int32)
        try:
            everywhere = self._model(inputs)
            chosen = self(inputs, positions)
        except (ValueError, TypeError, AttributeError, IndexError, RuntimeError):
            return False
        expected = everywhere.reshape(-1, everywhere.shape[-1])[positions]
        if chosen.shape != expected.shape:
            return False
        size = mx.maximum(mx.max(mx.abs(expected)), 1e-6)
        return bool((mx.max(mx.abs(chosen - expected)) <= tolerance(self.dtype) * size).item())


def tolerance(dtype: Any) -> float:
    """How far apart, relative to the largest, the logits of two ways of computing them may be."""
    return PROBE_TOLERANCE[str(dtype).removeprefix("mlx.core.")]


def transformer_body(model: Any) -> Any:
    """The part of an mlx-lm model below its head: `model.model`, inside `language_model` for those with eyes."""
    return model.get("language_model", model).get("model")


def _hand_on(body: Any, wanted: list[Any]) -> None:
    """From here on, while `wanted` holds positions, the body returns its states there alone, as [1, S, width]."""
    original = type(body)

    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        hidden = original.__call__(self, *arguments, **options)
        if not wanted:
            return hidden
        return hidden.reshape(-1, hidden.shape[-1])[wanted[-1]][None]

    body.__class__ = type(original.__name__, (original,), {"__call__": call})
