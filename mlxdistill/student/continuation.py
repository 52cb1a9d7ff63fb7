"""Going on from tokens that were already run.

All rows of a task begin with the same instruction: it is run once, and each row goes on from its keys and values. And
labels of several tokens are scored after the same prompt, again and again: every label's tokens go on from a copy of
its keys and values. Models are asked through the interface they use for their own caches: an offset, a mask, and
`update_and_fetch`.
"""

from __future__ import annotations

from typing import Any


class RecordedLayer:
    """Takes the place of a layer's cache during a pass, and keeps its keys and values.

    Args:
        before: the layer as recorded over a beginning of batch 1 that every row of this pass goes on from.
    """

    def __init__(self, before: RecordedLayer | None = None) -> None:
        self._before = before
        self.offset: int = 0 if before is None else before.keys.shape[2]
        self.keys: Any = None
        self.values: Any = None

    def update_and_fetch(self, keys: Any, values: Any) -> tuple[Any, Any]:
        if self._before is not None:
            keys, values = _after(self._before.keys, keys), _after(self._before.values, values)
        self.keys, self.values = keys, values
        return keys, values

    def make_mask(self, length: int, return_array: bool = False, window_size: int | None = None) -> Any:
        """What a model would use with a cache of its own that holds `offset` tokens."""
        from mlx_lm.models.base import create_causal_mask

        whole = self.offset + length
        if return_array or (window_size and whole > window_size):
            return create_causal_mask(length, self.offset, window_size=window_size)
        return None if length == 1 else "causal"


def _after(before: Any, own: Any) -> Any:
    """[rows, heads, before + own, width] from [1, heads, before, width] and [rows, heads, own, width]."""
    import mlx.core as mx

    return mx.concatenate([mx.broadcast_to(before, (own.shape[0], *before.shape[1:])), own], axis=2)


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
