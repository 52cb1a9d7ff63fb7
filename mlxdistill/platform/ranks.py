"""Ranks of `mlx.launch`: one process on each of several machines, which work on one job.

    mlx.launch --hostfile macs.json --backend ring -- mlxdistill label CONFIG

MLX's own collectives carry the messages (ring over TCP, JACCL over Thunderbolt, Open MPI); there is no cluster code of
our own. MLX is imported only where `mlx.launch` has started this process: an ordinary run never loads it here.

What that means for "nothing leaves the machine": with ranks, rows, answers and what a student learns of them travel
between the machines that the user named to `mlx.launch`, and to no other. They travel unencrypted and the ranks do not
prove who they are, which is how MLX's backends work: use a cable or a network you trust. The sockets are native ones,
which the guard of `privacy/` does not see; all else stays guarded on every rank.

A rank that waits in MLX's ring keeps one core busy. So whoever calls waits only when its own share of the work is done.
"""

from __future__ import annotations

import json
import os
import platform
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlxdistill.errors import Interrupted, MlxDistillError, UsageError

POLL_SECONDS = 0.1
FRAME_BYTES = 1024
# What `mlx.launch` sets for each of MLX's backends. MLX's own choice would start MPI, where it is installed, before it
# looks for JACCL.
_BACKENDS = {"MLX_HOSTFILE": "ring", "MLX_IBV_DEVICES": "jaccl", "OMPI_COMM_WORLD_SIZE": "mpi", "NCCL_HOST_IP": "nccl"}
# Child processes do not take part: to them these say that they should.
_OF_THE_LAUNCH = (
    "MLX_RANK",
    "MLX_HOSTFILE",
    "MLX_IBV_DEVICES",
    "MLX_JACCL_COORDINATOR",
    "MLX_JACCL_RING",
    "MLX_WORLD_SIZE",
)
_GOES_ON = "start the same command again: it goes on from here, and what each rank has answered is kept on its disk"


class Ranks:
    """This process among those that were launched together. Messages are whatever JSON can hold.

    Every rank must make the same calls in the same order. Those that take `stopped` ask it, instead of what the ranks
    were joined with, whether the user wants to stop while they wait for the others.

    Attributes:
        rank, size: this one's number, from 0, and how many there are.
        host: the name of this machine.
    Raises MlxDistillError where the connection to another rank is lost, Interrupted where the user stops while waiting.
    """

    def __init__(self, group: Any, stopped: Callable[[], bool]) -> None:
        self._group = group
        self.rank: int = group.rank()
        self.size: int = group.size()
        self.host = platform.node()
        self._stopped = stopped
        self._asked: queue.SimpleQueue[tuple[Callable[[], Any], queue.SimpleQueue[Any]]] = queue.SimpleQueue()
        threading.Thread(target=_exchange, args=(self._asked,), daemon=True, name="ranks").start()

    def broadcast(self, message: Any = None) -> Any:
        """Rank 0's message, to all; what the others give is ignored."""
        return json.loads(self.broadcast_bytes(json.dumps(message).encode()))

    def broadcast_bytes(self, content: bytes = b"", stopped: Callable[[], bool] | None = None) -> bytes:
        """As `broadcast`, for what is not JSON."""
        own = content if self.rank == 0 else b""
        found: bytes = self._wait(lambda: self._sum(own), stopped)
        return found

    def gather(self, message: Any, stopped: Callable[[], bool] | None = None) -> list[Any]:
        """Every rank's message, in the order of the ranks, to all."""
        content = json.dumps(message).encode()
        return [json.loads(part) for part in self._wait(lambda: self._all(content), stopped)]

    def sum(self, values: NDArray[np.float32], stopped: Callable[[], bool] | None = None) -> NDArray[np.float32]:
        """The ranks' arrays of one length added up, the same bytes to all: MLX adds in an order of its own, always the
        same."""
        import mlx.core as mx

        found: NDArray[np.float32] = self._wait(lambda: self._do(mx.distributed.all_sum, values), stopped)
        return found

    def _sum(self, content: bytes) -> bytes:
        """Of messages of which all but one are empty, that one."""
        import mlx.core as mx

        length = int(self._do(mx.distributed.all_sum, np.array([len(content)]))[0])
        return bytes(self._do(mx.distributed.all_sum, _padded(content, length)))

    def _all(self, content: bytes) -> list[bytes]:
        """Each rank's content; short ones, as most are, in a single exchange."""
        import mlx.core as mx

        framed = len(content).to_bytes(8, "little") + content
        frames = self._do(mx.distributed.all_gather, _padded(framed[:FRAME_BYTES], FRAME_BYTES)).reshape(self.size, -1)
        lengths = [int.from_bytes(bytes(frame[:8]), "little") for frame in frames]
        parts = frames[:, 8:]
        if max(lengths) > parts.shape[1]:
            parts = self._do(mx.distributed.all_gather, _padded(content, max(lengths))).reshape(self.size, -1)
        return [bytes(part[:length]) for part, length in zip(parts, lengths, strict=True)]

    def _do(self, collective: Callable[..., Any], own: NDArray[Any]) -> NDArray[Any]:
        import mlx.core as mx

        result = collective(mx.array(own), group=self._group, stream=mx.cpu)
        mx.eval(result)  # raises where a connection was lost; turning the array into another kind would not
        return np.array(result)

    def _wait(self, exchange: Callable[[], Any], stopped: Callable[[], bool] | None = None) -> Any:
        """Does it in a thread: Python hears of no signal while it is inside MLX, and the others may take hours."""
        done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._asked.put((exchange, done))
        while True:
            try:
                found = done.get(timeout=POLL_SECONDS)
                break
            except queue.Empty:
                if (stopped or self._stopped)():
                    raise Interrupted("stopped", hint="the same command goes on from here") from None
        if isinstance(found, RuntimeError):
            where = f"rank {self.rank} on {self.host}"
            raise MlxDistillError("the connection to another rank was lost", where=where, hint=_GOES_ON) from found
        if isinstance(found, Exception):
            raise found
        return found


def _exchange(asked: queue.SimpleQueue[tuple[Callable[[], Any], queue.SimpleQueue[Any]]]) -> None:
    """One thread for all exchanges: MLX starts one of its own beside each that ever asks it for something.

    It holds on to nothing of the ranks between them, because MPI wants to be finalized, which MLX does when the group
    is gone.
    """
    while True:
        exchange, done = asked.get()
        try:
            done.put(exchange())
        except Exception as error:
            done.put(error)
        del exchange, done


def _launched() -> str | None:
    """The backend that `mlx.launch` chose for this process and others; None where there are none."""
    backend = next((name for variable, name in _BACKENDS.items() if variable in os.environ), None)
    if backend == "ring" and not Path(os.environ["MLX_HOSTFILE"]).read_text("utf-8").strip():
        return None  # the list of hosts that `mlx.launch -n 1` leaves, which MLX itself does not read
    if backend == "mpi" and os.environ["OMPI_COMM_WORLD_SIZE"] == "1":
        return None
    return backend


def _padded(content: bytes, length: int) -> NDArray[np.uint8]:
    padded = np.zeros(length, np.uint8)
    padded[: len(content)] = np.frombuffer(content, np.uint8)
    return padded


def join_ranks(stopped: Callable[[], bool]) -> Ranks | None:
    """Joins the ranks that `mlx.launch` started together with this process; None where there are no others.

    Args:
        stopped: whether the user wants to stop, asked while waiting for others.

    Raises MlxDistillError where the others cannot be reached, UsageError for a backend that only CUDA has.
    """
    backend = _launched()
    if backend is None:
        return None
    if backend == "nccl":
        raise UsageError("mlxdistill does not work over NCCL", where="--backend nccl", hint="use --backend ring")
    import mlx.core as mx

    rank = os.environ.get("MLX_RANK") or os.environ.get("OMPI_COMM_WORLD_RANK", "?")
    try:
        group = mx.distributed.init(strict=True, backend=backend)
    except RuntimeError as error:
        hint = "check that every host of the hostfile can be reached, and that nothing else uses its ports"
        message = f"cannot reach the other ranks ({error})"
        raise MlxDistillError(message, where=f"rank {rank} on {platform.node()}", hint=hint) from error
    for name in _OF_THE_LAUNCH:
        os.environ.pop(name, None)
    return Ranks(group, stopped) if group.size() > 1 else None


def dismiss(ranks: Ranks) -> None:
    """Tells the other ranks, where they wait for rank 0's next order, that there is none in this stage."""
    ranks.broadcast({"do": "end"})
