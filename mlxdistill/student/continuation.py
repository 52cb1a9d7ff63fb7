"""Going on from prompts that were already run.

Labels of several tokens are scored after the same prompt, again and again. Its keys and values are kept per layer, and
every label's tokens go on from a copy of them. Models are asked through the interface they use for their own caches: an
offset, a mask, and `update_and_fetch`. Prompts of one batch differ in length, so both are per row.
"""

from __future__ import annotations

from typing import Any


class RecordedLayer:
    """Takes the place of a layer's cache during the prompts' pass, and keeps its keys and values."""

    def __init__(self) -> None:
        self.offset = 0
        self.keys: Any = None
        self.values: Any = None

    def update_and_fetch(self, keys: Any, values: Any) -> tuple[Any, Any]:
        self.keys, self.values = keys, values
        return keys, values

    def make_mask(self, length: int, return_array: bool = False, window_size: int | None = None) -> Any:
        """What a model without a cache would use."""
        from mlx_lm.models.base import create_causal_mask

        if length == 1:
            return None
        if return_array or (window_size and length > window_size):
            return create_causal_mask(length, window_size=window_size)
        return "causal"


class ContinuedLayer:
    """Takes the place of a layer's cache for tokens that go on from recorded prompts.

    Args:
        recorded: the layer's keys and values of B prompts, padded on the right to one length.
        lengths: int [B], of the prompts without padding.
        copies: how many continuations each prompt has; the batch is B x copies, a prompt's continuations side by side.
    """

    def __init__(self, recorded: RecordedLayer, lengths: Any, copies: int) -> None:
        import mlx.core as mx

        self.offset = mx.repeat(lengths, copies, axis=0)
        self._keys = mx.repeat(recorded.keys, copies, axis=0)
        self._values = mx.repeat(recorded.values, copies, axis=0)

    def update_and_fetch(self, keys: Any, values: Any) -> tuple[Any, Any]:
        import mlx.core as mx

        return mx.concatenate([self._keys, keys], axis=2), mx.concatenate([self._values, values], axis=2)

    def make_mask(self, length: int, return_array: bool = False, window_size: int | None = None) -> Any:
        """bool [batch, 1, length, recorded + length]: no padding, nothing later, nothing before the window."""
        import mlx.core as mx

        recorded = mx.arange(self._keys.shape[2])[None, None]
        own = mx.arange(length)
        place = self.offset[:, None, None] + own[None, :, None]
        seen = mx.broadcast_to(recorded < self.offset[:, None, None], (*place.shape[:2], recorded.shape[2]))
        later = mx.broadcast_to((own[None, None] <= own[None, :, None]), (*place.shape[:2], length))
        if window_size:
            seen = mx.logical_and(seen, place - recorded < window_size)
            later = mx.logical_and(later, own[None, :, None] - own[None, None] < window_size)
        return mx.concatenate([seen, later], axis=-1)[:, None]
