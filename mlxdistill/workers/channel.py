"""The child's end of the pipe.

Progress is sent and forgotten. Answers are sent and waited for: `send` returns when the parent has committed them, so
the parent's store is never more than one wave behind and memory never holds more than one wave. What a child wants from
its fellows on other machines it asks its parent for, by `exchange`.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from mlxdistill.errors import MlxDistillError

PROGRESS_INTERVAL_SECONDS = 0.1


class StopRequested(Exception):
    """The user asked to stop: unwind, keeping what was acknowledged."""


@dataclass(frozen=True, slots=True)
class Start:
    """The first message to a child: which function opens the model (`module:function`), and its request."""

    entry: str
    request: Any


@dataclass(frozen=True, slots=True)
class Ask:
    question: Any


@dataclass(frozen=True, slots=True)
class Payload:
    value: Any


@dataclass(frozen=True, slots=True)
class Advance:
    done: int
    total: int
    figures: dict[str, float]


@dataclass(frozen=True, slots=True)
class Note:
    message: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """What the child has for its fellows on other machines; its parent knows them."""

    value: Any


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What they had for it; or the MlxDistillError by which it failed."""

    value: Any


@dataclass(frozen=True, slots=True)
class Ready:
    """The model is open."""


@dataclass(frozen=True, slots=True)
class Done:
    result: Any
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True)
class Stopped:
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True)
class Failed:
    """`error` is a MlxDistillError, or None for a bug, of which `traceback` then tells."""

    error: Exception | None
    traceback: str


ACKNOWLEDGE = "acknowledge"
STOP = "stop"
CLOSE = "close"


class Channel:
    """Implements `tasks.protocols.Progress`, and carries answers."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._acknowledged: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._questions: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._exchanged: queue.SimpleQueue[Exchanged | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._last_progress = 0.0
        threading.Thread(target=self._listen, daemon=True, name="channel").start()

    def _listen(self) -> None:
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                os._exit(1)  # the parent is gone, and native code in the main thread would not notice
            if message == ACKNOWLEDGE:
                self._acknowledged.put(None)
            elif message == STOP:
                self._stop.set()
            elif message == CLOSE:
                self._stop.set()
                self._acknowledged.put(None)  # nobody will acknowledge what is being sent
                self._exchanged.put(None)
                self._questions.put(message)
            elif isinstance(message, Exchanged):
                self._exchanged.put(message)
            else:
                self._questions.put(message)

    @property
    def stop_requested(self) -> bool:
        return self._stop.is_set()

    def check_stop(self) -> None:
        """Raises StopRequested once the user has asked to stop."""
        if self._stop.is_set():
            raise StopRequested

    def next_message(self) -> Any:
        return self._questions.get()

    def send(self, payload: Any) -> None:
        """Hands over answers and waits until they are committed. Raises StopRequested after that, if asked to stop."""
        self._connection.send(Payload(payload))
        self._acknowledged.get()
        self.check_stop()

    def exchange(self, values: Sequence[Any]) -> list[Any]:
        """What the parent makes of each value together with the other ranks; one is on its way while the next is sent.

        Raises StopRequested where the parent is giving up, and the MlxDistillError with which it failed.
        """
        for value in values:
            self._connection.send(Exchange(value))
        replies = []
        for _ in values:
            if (reply := self._exchanged.get()) is None:
                raise StopRequested
            replies.append(reply.value)
        for reply in replies:
            if isinstance(reply, MlxDistillError):
                raise reply
        return replies

    def tell(self, message: Any) -> None:
        self._connection.send(message)

    def advance(self, done: int, total: int, **figures: float) -> None:
        now = time.monotonic()
        if done >= total or now - self._last_progress >= PROGRESS_INTERVAL_SECONDS:
            self._last_progress = now
            self._connection.send(Advance(done, total, figures))

    def note(self, message: str) -> None:
        self._connection.send(Note(message))
