"""A model in a child process: answers are acknowledged, stopping is clean, a crash is an error message."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mlxdistill.errors import Interrupted, ModelError, NetworkBlockedError, WorkerError
from mlxdistill.workers import Worker

HERE = str(Path(__file__).parent)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="macOS does not limit a process's address space")
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join([HERE, str(Path(__file__).parents[2])])}


def worker(entry: str, request: object, progress) -> Worker:
    return Worker(f"children:{entry}", request, name="model", progress=progress, environment=ENVIRONMENT)


def test_answers_progress_notes_and_result_arrive(progress) -> None:
    with worker("open_echo", "hello", progress) as child:
        assert list(child.ask(["a", "b"])) == [("hello", "a"), ("hello", "b")]
        assert child.result == 2
        assert list(child.ask([])) == []
        assert child.result == 0
    assert progress.advances[-1] == (2, 2)
    assert progress.notes == ["finished", "finished"]
    assert child.peak_memory_bytes > 5_000_000


def test_an_error_of_the_child_keeps_its_place_and_mend(progress) -> None:
    with pytest.raises(ModelError) as caught, worker("open_failing", "error", progress):
        pass
    assert (caught.value.message, caught.value.where, caught.value.hint) == (
        "no such model",
        "model.gguf",
        "name another",
    )


def test_a_bug_in_the_child_keeps_its_traceback(progress) -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError: a bug"), worker("open_failing", "bug", progress):
        pass


def test_a_crash_in_native_code_becomes_an_error_with_its_last_words(progress) -> None:
    with pytest.raises(WorkerError, match=r"SIGSEGV\): last words$"), worker("open_failing", "crash", progress):
        pass


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("metal", r"model's process ended \(SIGABRT\): .*Insufficient Memory"),
        ("killed", r"model's process ended \(SIGKILL\)$"),
        pytest.param("python", r"model's process had too little memory: MemoryError", marks=LINUX),
        pytest.param("mlx", r"model's process (had too little memory|ended \(SIG(ABRT|SEGV|BUS)\))", marks=LINUX),
    ],
)
def test_a_child_without_memory_is_an_error_that_says_what_to_set(progress, how: str, message: str) -> None:
    """What to set may become known only while the child works."""
    with pytest.raises(WorkerError, match=message) as caught, worker("open_hungry", how, progress) as child:
        for answer in child.ask(None):
            child.out_of_memory_hint = f"use less after {answer}"
    assert "use less after the first answer" in (caught.value.hint or "")
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("killed from outside") == (how == "killed")


def test_a_crash_for_another_reason_says_nothing_of_memory(progress) -> None:
    with (
        pytest.raises(WorkerError, match=r"some warning$") as caught,
        worker("open_hungry", "unimportant words", progress) as child,
    ):
        list(child.ask(None))
    assert caught.value.hint == "the same command goes on from the last saved state"


def test_the_child_is_guarded_too(progress) -> None:
    with pytest.raises(NetworkBlockedError, match=r"192\.0\.2\.1"), worker("open_failing", "network", progress):
        pass


def interrupt_soon(seconds: float, number: int = signal.SIGINT) -> None:
    threading.Timer(seconds, os.kill, (os.getpid(), number)).start()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_after_an_acknowledged_answer(progress, number: int) -> None:
    received = []
    with pytest.raises(Interrupted), worker("open_slow", None, progress) as child:
        interrupt_soon(0.2, number)
        received.extend(child.ask(None))
    assert received == list(range(len(received)))
    assert any("Ctrl-C again" in note for note in progress.notes)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_kills_a_child_that_does_not_listen(progress) -> None:
    pids = []
    start = time.monotonic()
    with pytest.raises(Interrupted, match="at once"), worker("open_deaf", None, progress) as child:
        for pid in child.ask(None):
            pids.append(pid)
            interrupt_soon(0.1)
            interrupt_soon(0.6)
    assert time.monotonic() - start < 30
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


PARENT = """
import os, sys
sys.path.insert(0, sys.argv[1])
from mlxdistill.workers import Worker
class Silent:
    def advance(self, *_, **__): pass
    def note(self, _): pass
with Worker("children:open_deaf", None, name="model", progress=Silent(),
            environment={"PYTHONPATH": os.pathsep.join(sys.argv[1:3])}) as child:
    for pid in child.ask(None):
        print(pid, flush=True)
"""


def test_the_child_ends_when_the_parent_is_killed() -> None:
    command = [sys.executable, "-c", PARENT, HERE, str(Path(__file__).parents[2])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{child}/stat").exists() and ") Z " in Path(f"/proc/{child}/stat").read_text():
            return
        time.sleep(0.1)
    pytest.fail("the child outlived its parent")
