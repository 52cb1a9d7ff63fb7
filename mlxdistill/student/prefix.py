"""The beginning that all rows share, run once a batch instead of once a row.

Every row of a task starts with the same instruction, a quarter of its tokens and more. Its keys and values come from a
pass of batch 1, and the rows' own tokens go on from them, broadcast. Nothing is approximated: attention sees the same
keys, and gradients flow back through them, summed over the rows. (Dropout draws one mask for the shared tokens of a
batch instead of one a row.) Models are handed the keys through the interface of their own caches; whether one computes
the same with them is tried once at opening, and where it does not, each row is run whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlxdistill.student.batches import common_beginning
from mlxdistill.student.continuation import RecordedLayer
from mlxdistill.student.head import SupervisedHead, tolerance

FEWEST_TOKENS = 8
_PROBED = ((1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 4, 5, 9, 8, 7, 6))


class SharedPrefix:
    """The shared beginning of a job's rows.

    Args:
        layers: how many layers the model has.
        tokens: what every row begins with; fewer than `FEWEST_TOKENS` are not worth a pass of their own.

    Attributes:
        tokens: how many tokens are run once: all of them, or none.
        supported: whether the model can go on from recorded keys and values.
    """

    def __init__(self, head: SupervisedHead, layers: int, tokens: Sequence[int]) -> None:
        self._head = head
        self._layers = layers
        self.supported = len(tokens) < FEWEST_TOKENS or self._probe()
        self._prefix = tuple(tokens) if self.supported and len(tokens) >= FEWEST_TOKENS else ()
        self.tokens = len(self._prefix)

    def run(self) -> list[RecordedLayer] | None:
        """Keys and values of each layer, in the graph of whatever uses them; None without a shared beginning."""
        return self._record(self._prefix) if self._prefix else None

    def _record(self, tokens: Sequence[int]) -> list[RecordedLayer]:
        import mlx.core as mx

        recorded = [RecordedLayer() for _ in range(self._layers)]
        self._head.run_body(mx.array([tokens]), recorded)
        return recorded

    def _probe(self) -> bool:
        import mlx.core as mx

        shared = common_beginning(_PROBED)
        length = len(_PROBED[0])
        wanted = [row * length + place for row in range(len(_PROBED)) for place in range(shared, length)]
        try:
            whole = self._head(mx.array(_PROBED), mx.array(wanted))
            after = go_on(self._record(_PROBED[0][:shared]))
            parted = self._head(
                mx.array([row[shared:] for row in _PROBED]), mx.arange(len(_PROBED) * (length - shared)), after
            )
            size = mx.maximum(mx.max(mx.abs(whole)), 1e-6)
            return bool((mx.max(mx.abs(whole - parted)) <= tolerance(self._head.dtype) * size).item())
        except (ValueError, TypeError, AttributeError, IndexError, RuntimeError):
            return False


def go_on(before: list[RecordedLayer] | None) -> list[RecordedLayer] | None:
    """Caches for rows that go on from a shared beginning."""
    return None if before is None else [RecordedLayer(layer) for layer in before]


def shared_beginning(rows: Iterable[tuple[tuple[int, ...], int]]) -> tuple[int, ...]:
    """The tokens that all rows begin with, given each row's tokens and where its answer starts.

    The position that predicts an answer's first token is never part of it, so that every row has something to run.
    """
    beginnings = [tokens[: first_target - 1] for tokens, first_target in rows]
    return tuple(beginnings[0][: common_beginning(beginnings)])
