"""The parent's end: a model in a child process, asked and answered.

    with Worker("mlxdistill.teacher.child:open_teacher", request, name="teacher", progress=progress) as worker:
        for answers in worker.ask(rows):
            store.add(answers)          # acknowledged when the loop comes back for more
        worker.result

The first Ctrl-C (or SIGTERM) lets the child finish its wave or checkpoint and raises Interrupted here; the second
kills it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from mlxdistill.errors import Interrupted, WorkerError
from mlxdistill.privacy.guard import offline_environment
from mlxdistill.tasks.protocols import Progress
from mlxdistill.workers.channel import (
    ACKNOWLEDGE,
    CLOSE,
    STOP,
    Advance,
    Ask,
    Done,
    Failed,
    Note,
    Payload,
    Ready,
    Start,
    Stopped,
)

POLL_SECONDS = 0.2
CLOSE_SECONDS = 20.0
LAST_WORDS_LINES = 12


class _Signals:
    """How often the user has asked to stop since the outermost `stop_signals` began."""

    count = 0
    depth = 0


@contextlib.contextmanager
def stop_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM inside the block are counted, not raised, so that no commit is torn."""
    if threading.current_thread() is not threading.main_thread() or _Signals.depth:
        yield
        return

    def count(number: int, frame: FrameType | None) -> None:
        _Signals.count += 1

    before = {number: signal.signal(number, count) for number in (signal.SIGINT, signal.SIGTERM)}
    _Signals.count, _Signals.depth = 0, 1
    try:
        yield
    finally:
        _Signals.depth = 0
        for number, handler in before.items():
            signal.signal(number, handler)


class Worker:
    """A child process that holds one model.

    Args:
        entry: `module:function` that opens the model in the child (see `workers/child.py`).
        request: a frozen dataclass of paths and settings.
        name: what messages call the process (`teacher`, `student`).
        environment: variables for the child besides this process's own, such as thread counts.

    Raises WorkerError where the process dies, whatever MlxDistillError the child raised, RuntimeError with the child's
    traceback for a bug, Interrupted after Ctrl-C.
    """

    def __init__(
        self, entry: str, request: object, *, name: str, progress: Progress, environment: dict[str, str] | None = None
    ) -> None:
        self.name = name
        self.peak_memory_bytes = 0
        self.result: Any = None
        self._start = Start(entry, request)
        self._environment = environment or {}
        self._progress = progress
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Worker:
        self._stack.enter_context(stop_signals())
        self._last_words = self._stack.enter_context(tempfile.TemporaryFile())
        ours, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mlxdistill.workers.child", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._last_words,
            stderr=self._last_words,
            env={**os.environ, **offline_environment(), "PYTHONPATH": _python_path(), **self._environment},
            start_new_session=True,  # the terminal's Ctrl-C reaches the parent alone
        )
        theirs.close()
        self._connection = Connection(ours.detach())
        self._stop_sent = False
        try:
            self._send(self._start)
            for _ in self._until(Ready):
                raise AssertionError("a child answers nothing before it is ready")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._connection.send(CLOSE)
        deadline = time.monotonic() + CLOSE_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline and _Signals.count < 2:
            with contextlib.suppress(OSError, EOFError):
                if self._connection.poll(POLL_SECONDS):
                    self._connection.recv()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.01)
        self._process.kill()
        self._process.wait()
        self._connection.close()
        self._stack.close()

    def ask(self, question: object) -> Iterator[Any]:
        """Yields what the child sends for this question; going on to the next acknowledges the one before.

        The question's result is in `result` afterwards.
        """
        self._send(Ask(question))
        yield from self._until(Done)

    def _until(self, last: type[Ready] | type[Done]) -> Iterator[Any]:
        while True:
            message = self._receive()
            match message:
                case Payload(value):
                    yield value
                    self._send(ACKNOWLEDGE)
                case Advance(done, total, figures):
                    self._progress.advance(done, total, **figures)
                case Note(text):
                    self._progress.note(text)
                case Done(result, peak):
                    self.result, self.peak_memory_bytes = result, peak
                case Stopped(peak):
                    self.peak_memory_bytes = peak
                    raise Interrupted("stopped", hint="the same command goes on from here")
                case Failed(error, trace):
                    if error is not None:
                        raise error
                    raise RuntimeError(f"in the {self.name}'s process:\n{trace}")
            if isinstance(message, last):
                return

    def _receive(self) -> Any:
        while True:
            self._pass_on_stop()
            try:
                if wait([self._connection], timeout=POLL_SECONDS):
                    return self._connection.recv()
            except (EOFError, OSError):
                self._fail()
            if self._process.poll() is not None and not self._connection.poll():
                self._fail()

    def _pass_on_stop(self) -> None:
        if _Signals.count >= 2:
            self._process.kill()
            raise Interrupted("stopped at once", hint="the same command goes on from the last saved state")
        if _Signals.count == 1 and not self._stop_sent:
            self._stop_sent = True
            self._progress.note(f"stopping after what the {self.name} is doing now; Ctrl-C again stops at once")
            self._send(STOP)

    def _send(self, message: object) -> None:
        try:
            self._connection.send(message)
        except OSError:
            self._fail()

    def _fail(self) -> NoReturn:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code = self._process.poll()
        how = f"exit code {code}"
        if code is not None and code < 0:
            how = signal.Signals(-code).name
        self._last_words.seek(0)
        words = self._last_words.read().decode("utf-8", "replace").strip().splitlines()[-LAST_WORDS_LINES:]
        hint = "out of memory? close other programs or use a smaller model or batch" if how == "SIGKILL" else None
        raise WorkerError(
            f"the {self.name}'s process ended ({how})" + "".join(f"\n  {line}" for line in words),
            hint=(hint + "; " if hint else "") + "the same command goes on from the last saved state",
        )


def _python_path() -> str:
    """The child imports this very package, wherever it was imported from."""
    here = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
