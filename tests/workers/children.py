"""Entries for the tests of workers: small stand-ins for a model's process."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
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


METAL = (
    "libc++abi: terminating due to uncaught exception of type std::runtime_error: [METAL] Command buffer execution "
    "failed: Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"
)


def open_hungry(request: str, channel: Channel) -> Callable[[Any, Channel], Any]:
    """Opens, and comes to an end for want of memory when it is asked."""

    def answer(question: Any, channel: Channel) -> None:
        channel.send("the first answer")
        if request == "metal":
            print(METAL, file=sys.stderr, flush=True)
            os.abort()
        if request == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if request == "unimportant words":
            print("some warning", file=sys.stderr, flush=True)
            os.abort()
        status = Path("/proc/self/status").read_text().splitlines()
        used = next(int(line.split()[1]) for line in status if line.startswith("VmSize:")) * 1024
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, used + 2**26))
        if request == "python":
            bytearray(2**30)
        if request == "mlx":
            import mlx.core as mx

            held = []
            while True:
                held.append(mx.ones((2**22,)))
                mx.eval(held)

    return answer


def open_exchanging(request: str, channel: Channel) -> Callable[[Any, Channel], Any]:
    """Hands numbers to its fellows through its parent, and says what comes back, or how that failed."""

    def answer(question: Sequence[int], channel: Channel) -> str:
        try:
            return str(channel.exchange(question))
        except ModelError as error:
            return f"failed: {error}"

    return answer
