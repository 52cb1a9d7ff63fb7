"""Ranks of `mlx.launch`: one process on each of several machines, which work on one job.

    mlx.launch --hostfile macs.json --backend ring -- mlxdistill label CONFIG

MLX's own collectives carry the messages (ring over TCP, JACCL over Thunderbolt); there is no cluster code of our own.
MLX is imported only where `mlx.launch` has set MLX_RANK: an ordinary run never loads it here.

What that means for "nothing leaves the machine": with ranks, rows and answers travel between the machines that the
user named to `mlx.launch`, and to no other. They travel unencrypted and the ranks do not prove who they are, which is
how MLX's backends work: use a cable or a network you trust. The sockets are native ones, which the guard of
`privacy/` does not see; all else stays guarded on every rank.

A rank that waits in MLX's ring keeps one core busy. So whoever calls waits only when its own share of the work is done.
"""

from __future__ import annotations

import json
import os
import platform
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlxdistill.errors import Interrupted, MlxDistillError

POLL_SECONDS = 0.1
_LAUNCHED = "MLX_RANK"
# Child processes do not take part: to them these say that they should.
_OF_THE_LAUNCH = (
    _LAUNCHED,
    "MLX_HOSTFILE",
    "MLX_IBV_DEVICES",
    "MLX_JACCL_COORDINATOR",
    "MLX_JACCL_RING",
    "MLX_WORLD_SIZE",
)
_GOES_ON = "start the same command again: it goes on from here, and what each rank has answered is kept on its disk"


class Ranks:
    """This process among those that were launched together. Messages are whatever JSON can hold.

    Every rank must make the same calls in the same order.

    Attributes:
        rank, size: this one's number, from 0, and how many there are.
        host: the name of this machine.
        stopped: asked while waiting for the others; whether the user wants to stop.

    Raises MlxDistillError where the connection to another rank is lost, Interrupted where the user stops while waiting.
    """

    def __init__(self, group: Any, stopped: Callable[[], bool]) -> None:
        self._group = group
        self.rank: int = group.rank()
        self.size: int = group.size()
        self.host = platform.node()
        self._stopped = stopped

    def broadcast(self, message: Any = None) -> Any:
        """Rank 0's message, to all; what the others give is ignored."""
        content = json.dumps(message).encode() if self.rank == 0 else b""
        return json.loads(self._wait(lambda: self._sum(content)))

    def gather(self, message: Any) -> list[Any]:
        """Every rank's message, in the order of the ranks, to all."""
        content = json.dumps(message).encode()
        return [json.loads(part) for part in self._wait(lambda: self._all(content))]

    def _sum(self, content: bytes) -> bytes:
        """Of messages of which all but one are empty, that one."""
        import mlx.core as mx

        length = int(self._do(mx.distributed.all_sum, np.array([len(content)]))[0])
        return bytes(self._do(mx.distributed.all_sum, _padded(content, length)))

    def _all(self, content: bytes) -> list[bytes]:
        import mlx.core as mx

        lengths = [int(length) for length in self._do(mx.distributed.all_gather, np.array([len(content)]))]
        parts = self._do(mx.distributed.all_gather, _padded(content, max(lengths))).reshape(self.size, -1)
        return [bytes(part[:length]) for part, length in zip(parts, lengths, strict=True)]

    def _do(self, collective: Callable[..., Any], own: NDArray[Any]) -> NDArray[Any]:
        import mlx.core as mx

        result = collective(mx.array(own), group=self._group, stream=mx.cpu)
        mx.eval(result)  # raises where a connection was lost; turning the array into another kind would not
        return np.array(result)

    def _wait(self, exchange: Callable[[], Any]) -> Any:
        """Does it in a thread: Python hears of no signal while it is inside MLX, and the others may take hours."""
        found: list[Any] = []
        lost: list[Exception] = []

        def work() -> None:
            try:
                found.append(exchange())
            except RuntimeError as error:
                lost.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(POLL_SECONDS)
            if thread.is_alive() and self._stopped():
                raise Interrupted("stopped", hint="the same command goes on from here")
        if lost:
            where = f"rank {self.rank} on {self.host}"
            raise MlxDistillError("the connection to another rank was lost", where=where, hint=_GOES_ON) from lost[0]
        return found[0]


def _is_alone() -> bool:
    """Whether `mlx.launch -n 1` has left its list of hosts empty, which MLX itself does not read."""
    hosts = os.environ.get("MLX_HOSTFILE")
    return hosts is not None and not Path(hosts).read_text("utf-8").strip()


def _padded(content: bytes, length: int) -> NDArray[np.uint8]:
    padded = np.zeros(length, np.uint8)
    padded[: len(content)] = np.frombuffer(content, np.uint8)
    return padded


def join_ranks(stopped: Callable[[], bool]) -> Ranks | None:
    """Joins the ranks that `mlx.launch` started together with this process; None where there are no others.

    Args:
        stopped: whether the user wants to stop, asked while waiting for others.

    Raises MlxDistillError where the others cannot be reached.
    """
    if _LAUNCHED not in os.environ or _is_alone():
        return None
    import mlx.core as mx

    rank = os.environ[_LAUNCHED]
    try:
        group = mx.distributed.init(strict=True)
    except RuntimeError as error:
        hint = "check that every host of the hostfile can be reached, and that nothing else uses its ports"
        message = f"cannot reach the other ranks ({error})"
        raise MlxDistillError(message, where=f"rank {rank} on {platform.node()}", hint=hint) from error
    for name in _OF_THE_LAUNCH:
        os.environ.pop(name, None)
    return Ranks(group, stopped) if group.size() > 1 else None
