"""Entries for the tests of workers: small stand-ins for a model's process."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from mlxdistill.errors import ModelError
from mlxdistill.workers.channel import Channel


def open_echo(request: Any, channel: Channel) -> Callable[[Any, Channel], Any]:
    """Sends each item of the question, then returns their number."""

    def answer(question: Any, channel: Channel) -> int:
        for done, item in enumerate(question, start=1):
            channel.send((request, item))
            channel.advance(done, len(question), speed=1.0)
        channel.note("finished")
        return len(question)

    return answer


def open_slow(request: Any, channel: Channel) -> Callable[[Any, Channel], Any]:
    """Sends numbers for ever."""

    def answer(question: Any, channel: Channel) -> None:
        number = 0
        while True:
            channel.send(number)
            number += 1
            time.sleep(0.02)

    return answer


def open_deaf(request: Any, channel: Channel) -> Callable[[Any, Channel], Any]:
    """Never comes back from its work, as native code may not."""

    def answer(question: Any, channel: Channel) -> None:
        channel.send(os.getpid())
        time.sleep(600)

    return answer


def open_failing(request: str, channel: Channel) -> Callable[[Any, Channel], Any]:
    if request == "error":
        raise ModelError("no such model", where="model.gguf", hint="name another")
    if request == "bug":
        raise ZeroDivisionError("a bug")
    if request == "crash":
        print("last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    if request == "network":
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    raise AssertionError(request)
