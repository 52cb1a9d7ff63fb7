"""A training's share of the work, where several ranks of `mlx.launch` train together.

Every rank has the whole model and all rows. Of a step's rows each computes the gradients of its own share; their sum is
the gradient of all, so every rank then takes the same step, and a training on two machines has the losses of one on a
single machine. The model lives in a child process and the connection to the other ranks in its parent
(`student/ranks.py`), which carries the sums: as one flat buffer in large pieces, so that the time on the way does not
depend on how many small matrices an adapter has. Whatever a rank decides by is a sum, or was said by rank 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mlxdistill.errors import MlxDistillError
from mlxdistill.student.adapter import tensor_bytes
from mlxdistill.student.checkpoints import Checkpoint, arrays_of

PIECE_BYTES = 16 * 2**20
_STOP = "stop"


class RanksParted(MlxDistillError):
    """Another rank failed, or cannot be reached any more."""


@dataclass(frozen=True, slots=True)
class Summand:
    """What is added up over the ranks: figures by name, and float32 values."""

    figures: Mapping[str, float]
    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Handout:
    """What rank 0 gives to all; what the others give is ignored."""

    content: bytes


class Line(Protocol):
    """The child's end of the pipe; `workers.channel.Channel` is one."""

    @property
    def stop_requested(self) -> bool: ...

    def exchange(self, questions: Sequence[Any]) -> list[Any]: ...


class Company(Protocol):
    """Whom a training computes with; every rank makes the same calls in the same order.

    Attributes:
        rank, size: this one's number, from 0, and how many there are.
    """

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def share(self, items: Sequence[Any]) -> list[Any]:
        """This rank's part of them; it may be empty."""

    def sum(self, tree: Any, figures: Mapping[str, float]) -> tuple[Any, dict[str, float]]:
        """Arrays and figures, each added up over the ranks: the same bytes on all of them."""

    def stop(self, requested: bool) -> bool:
        """Whether all stop here, given whether this rank was asked to."""

    def first(self, checkpoint: Checkpoint) -> Checkpoint:
        """Rank 0's checkpoint, without what only rank 0 writes."""

    def settle(self, number: int) -> int:
        """Rank 0's number."""


class Alone:
    """The only rank."""

    rank, size = 0, 1

    def share(self, items: Sequence[Any]) -> list[Any]:
        return list(items)

    def sum(self, tree: Any, figures: Mapping[str, float]) -> tuple[Any, dict[str, float]]:
        return tree, dict(figures)

    def stop(self, requested: bool) -> bool:
        return requested

    def first(self, checkpoint: Checkpoint) -> Checkpoint:
        return checkpoint

    def settle(self, number: int) -> int:
        return number


class Parallel:
    """One of several ranks. Implements `Company`; every method raises RanksParted where another rank is lost."""

    def __init__(self, rank: int, size: int, line: Line) -> None:
        self.rank, self.size = rank, size
        self._line = line
        self._stop = False

    def share(self, items: Sequence[Any]) -> list[Any]:
        return list(items[self.rank :: self.size])  # rows of a step come in the order of their lengths

    def sum(self, tree: Any, figures: Mapping[str, float]) -> tuple[Any, dict[str, float]]:
        import mlx.core as mx
        from mlx.utils import tree_flatten, tree_map

        leaves = [leaf for _, leaf in tree_flatten(tree)]
        flat = mx.concatenate([leaf.reshape(-1).astype(mx.float32) for leaf in leaves]) if leaves else mx.zeros(0)
        own = np.array(flat, copy=False)
        size = PIECE_BYTES // own.itemsize
        asked = {**figures, _STOP: float(self._line.stop_requested)}
        # The figures travel with the first piece, which is sent even where there is nothing else to add up.
        summands = [
            Summand(asked if start == 0 else {}, own[start : start + size])
            for start in range(0, max(1, len(own)), size)
        ]
        replies = self._line.exchange(summands)
        total = dict(replies[0].figures)
        self._stop |= total.pop(_STOP) > 0
        ends = np.cumsum([leaf.size for leaf in leaves])[:-1].tolist()
        parts = iter(mx.split(mx.array(np.concatenate([reply.values for reply in replies])), ends))
        return tree_map(lambda leaf: next(parts).reshape(leaf.shape).astype(leaf.dtype), tree), total

    def stop(self, requested: bool) -> bool:
        """What the ranks said at the last sum: one that was asked since says so at the next."""
        return self._stop

    def first(self, checkpoint: Checkpoint) -> Checkpoint:
        own = replace(checkpoint, tensors={name: checkpoint.tensors[name] for name in ("adapter", "optimizer")})
        state = json.loads(self._handed_out(json.dumps([own.step, own.state]).encode()))
        tensors = {name: arrays_of(self._handed_out(tensor_bytes(arrays))) for name, arrays in own.tensors.items()}
        return Checkpoint(state[0], state[1], {**checkpoint.tensors, **tensors} if self.rank == 0 else tensors)

    def settle(self, number: int) -> int:
        return int(self._handed_out(str(number).encode()))

    def _handed_out(self, content: bytes) -> bytes:
        own = content if self.rank == 0 else b""
        reply: bytes = self._line.exchange([Handout(own)])[0].content
        return reply
