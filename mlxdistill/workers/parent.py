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
import site
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from mlxdistill.errors import Interrupted, MlxDistillError, WorkerError
from mlxdistill.privacy.guard import offline_environment
from mlxdistill.tasks.protocols import Progress
from mlxdistill.workers.channel import (
    ACKNOWLEDGE,
    CLOSE,
    STOP,
    Advance,
    Ask,
    Done,
    Exchange,
    Exchanged,
    Failed,
    Note,
    Payload,
    Ready,
    Start,
    Stopped,
)

POLL_SECONDS = 0.2
CLOSE_SECONDS = 20.0
PIPE_BYTES = 2**20  # a Mac's own choice is 8 KiB, which a large message fills thousands of times
LAST_WORDS_LINES = 12
# What Metal, MLX, llama.cpp, NumPy, the C++ library and Python say when they give up.
OUT_OF_MEMORY_MARKS = (
    "insufficient memory",
    "outofmemory",
    "out of memory",
    "failed to allocate",
    "unable to allocate",
    "cannot allocate memory",
    "greater than the maximum allowed buffer size",
    "bad_alloc",
    "memoryerror",
)
GOES_ON = "the same command goes on from the last saved state"


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


def stop_asked(times: int = 1) -> bool:
    """Whether the user has asked to stop so often; for what waits inside `stop_signals` for something other than the
    child."""
    return _Signals.depth > 0 and _Signals.count >= times


class Worker:
    """A child process that holds one model.

    Args:
        entry: `module:function` that opens the model in the child (see `workers/child.py`).
        request: a frozen dataclass of paths and settings.
        name: what messages call the process (`teacher`, `student`).
        environment: variables for the child besides this process's own, such as thread counts.
        exchange: answers what the child asks of its fellows on other machines (`Channel.exchange`). A MlxDistillError
            that it raises is raised in the child; Interrupted ends it.
        out_of_memory_hint: what to do where the child had too little memory. The attribute of this name may be set anew
            while the child works, by whoever learns more of what it is doing.

    Raises WorkerError where the process dies, whatever MlxDistillError the child raised, RuntimeError with the child's
    traceback for a bug, Interrupted after Ctrl-C.
    """

    def __init__(
        self,
        entry: str,
        request: object,
        *,
        name: str,
        progress: Progress,
        environment: dict[str, str] | None = None,
        exchange: Callable[[Any], Any] | None = None,
        out_of_memory_hint: str = f"close other programs, and {GOES_ON}; or use a smaller model",
    ) -> None:
        self.name = name
        self.out_of_memory_hint = out_of_memory_hint
        self.peak_memory_bytes = 0
        self.result: Any = None
        self._start = Start(entry, request)
        self._environment = environment or {}
        self._progress = progress
        self._exchange = exchange
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Worker:
        self._stack.enter_context(stop_signals())
        self._last_words = self._stack.enter_context(tempfile.TemporaryFile())
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIPE_BYTES)
        try:
            self._process = self._spawn(theirs)
        except BaseException:
            ours.close()
            self._stack.close()
            raise
        finally:
            theirs.close()
        self._connection = Connection(ours.detach())
        self._stop_sent = False
        try:
            self._send(self._start)
            for _ in self._until(Ready):
                raise AssertionError("a child answers nothing before it is ready")
        except BaseException as error:
            self.__exit__(type(error))
            raise
        return self

    def _spawn(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "mlxdistill.workers.child", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._last_words,
            stderr=self._last_words,
            env={**os.environ, **offline_environment(), **_python_path(), **self._environment},
            start_new_session=True,  # the terminal's Ctrl-C reaches the parent alone
        )

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
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
        asked_to_stop = _Signals.count > 0
        self._stack.close()
        if asked_to_stop and kind is None:
            # The child was done before it heard: what follows must not run all the same.
            raise Interrupted("stopped", hint="the same command goes on from here")

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
                case Exchange(value):
                    self._send(Exchanged(self._exchanged(value)))
                case Done(result, peak):
                    self.result, self.peak_memory_bytes = result, peak
                case Stopped(peak):
                    self.peak_memory_bytes = peak
                    raise Interrupted("stopped", hint="the same command goes on from here")
                case Failed(error, trace):
                    if error is not None:
                        raise error
                    if reason := _out_of_memory(trace.splitlines()[-1:]):
                        message = f"the {self.name}'s process had too little memory: {reason}"
                        raise WorkerError(message, hint=self.out_of_memory_hint)
                    raise RuntimeError(f"in the {self.name}'s process:\n{trace}")
            if isinstance(message, last):
                return

    def _exchanged(self, value: Any) -> Any:
        assert self._exchange is not None
        try:
            return self._exchange(value)
        except Interrupted:
            raise
        except MlxDistillError as error:
            return error

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
            raise Interrupted("stopped at once", hint=GOES_ON)
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
        reason = _out_of_memory(words)
        hint = GOES_ON
        if reason is not None:
            hint = f"out of memory: {self.out_of_memory_hint}"
        elif how == "SIGKILL":
            hint = f"killed from outside, by the system mostly for want of memory: {self.out_of_memory_hint}"
        elif how in ("SIGSEGV", "SIGBUS"):  # MLX without Metal uses memory that it did not get
            hint = f"{GOES_ON}; if memory was short, {self.out_of_memory_hint}"
        last = reason or (words[-1].strip() if words else "")
        error = WorkerError(f"the {self.name}'s process ended ({how})" + (f": {last}" if last else ""), hint=hint)
        for word in words[:-1]:
            error.add_note(word)
        raise error


def _out_of_memory(lines: Sequence[str]) -> str | None:
    """The last of the lines that says so, or None."""
    told = (line.strip() for line in reversed(lines) if any(mark in line.lower() for mark in OUT_OF_MEMORY_MARKS))
    return next(told, None)


def _python_path() -> dict[str, str]:
    """The child imports this very package, wherever it was imported from.

    An installed package is found without help, and its folder must not come before the standard library's.
    """
    root = str(Path(__file__).resolve().parents[2])
    if root in (*site.getsitepackages(), site.getusersitepackages()):
        return {}
    return {"PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])}
