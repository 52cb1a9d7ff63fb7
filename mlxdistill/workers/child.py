"""The child process: `python -m mlxdistill.workers.child DESCRIPTOR`.

Nothing native is imported before the network guard, the BLAS library and the signal handlers are in place.

An entry, `module:function`, is called once with the request and returns the function that answers questions:

    def open_teacher(request: TeacherRequest, channel: Channel) -> Callable[[Question, Channel], Result]
"""

from __future__ import annotations

import importlib
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from mlxdistill.errors import MlxDistillError
from mlxdistill.platform.blas import load_blas
from mlxdistill.platform.memory import peak_memory_bytes
from mlxdistill.privacy.guard import install_guard
from mlxdistill.workers.channel import CLOSE, Ask, Channel, Done, Failed, Ready, Start, Stopped, StopRequested


def main(descriptor: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    install_guard()
    load_blas()
    connection = Connection(descriptor)
    start: Start = connection.recv()
    channel = Channel(connection)
    try:
        module, _, function = start.entry.partition(":")
        answer = getattr(importlib.import_module(module), function)(start.request, channel)
        channel.tell(Ready())
        _serve(answer, channel)
    except StopRequested:
        channel.tell(Stopped(peak_memory_bytes()))
    except MlxDistillError as error:
        channel.tell(Failed(error, traceback.format_exc()))
    except Exception:
        channel.tell(Failed(None, traceback.format_exc()))


def _serve(answer: Callable[[Any, Channel], Any], channel: Channel) -> None:
    while True:
        message = channel.next_message()
        if message == CLOSE:
            return
        assert isinstance(message, Ask)
        result = answer(message.question, channel)
        channel.tell(Done(result, peak_memory_bytes()))


if __name__ == "__main__":
    main(int(sys.argv[1]))
