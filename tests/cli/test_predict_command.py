"""`predict` says what it left out and what an interruption costs; the student is a stand-in."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mlxdistill.errors import DataError, Interrupted
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row

CONFIG = """\
task: {instruction: Decide., labels: [ok, toxic]}
data: {source: rows.jsonl, fields: {text: text}}
teacher: {model: embedded:teacher}
student: {model: embedded:student}
"""


class Student:
    truncated = 1

    def predict(self, rows: Sequence[Row], progress: object) -> Iterator[list[Answer]]:
        yield [Answer(row.id, "ok", (0.75, 0.25), "answered") for row in rows]


class Stopped(Student):
    def predict(self, rows: Sequence[Row], progress: object) -> Iterator[list[Answer]]:
        raise Interrupted("stopped", hint="the same command goes on from here")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(CONFIG)
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n{"text": ""}\nbroken\n{"text": "b"}\n')
    monkeypatch.setattr("mlxdistill.pipeline.train.check_finished", lambda config, run: None)
    monkeypatch.setattr("mlxdistill.pipeline.train.open_student", lambda *_: contextlib.nullcontext(Student()))
    return tmp_path / "run"


def test_quiet_still_counts_what_was_left_out(call, run: Path) -> None:
    result = call("predict", run, "rows.jsonl", "--quiet")
    assert result.returncode == 0
    assert len(result.stdout.splitlines()) == 2
    assert json.loads(result.stdout.splitlines()[0])["probabilities"] == {"ok": 0.75, "toxic": 0.25}
    assert result.stderr == "note: 2 rows left out, 1 rows truncated (student.max_tokens)\n"


def test_rows_of_which_none_can_be_used(call, run: Path) -> None:
    (run.parent / "rows.jsonl").write_text('{"text": ""}\n')
    result = call("predict", run, "rows.jsonl", "--output", "out.jsonl")
    assert result.returncode == 1
    assert "no rows that can be labelled" in result.stderr
    assert not (run.parent / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [(["--output", "out.jsonl"], "out.jsonl is not written"), ([], "the rows printed so far are whole")],
    ids=["file", "stdout"],
)
def test_an_interruption_says_what_is_kept(
    call, run: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], expected: str
) -> None:
    monkeypatch.setattr("mlxdistill.pipeline.train.open_student", lambda *_: contextlib.nullcontext(Stopped()))
    result = call("predict", run, "rows.jsonl", *flags)
    assert result.returncode == 130
    assert f"hint: {expected}" in result.stderr
    assert "goes on from here" not in result.stderr


def test_an_output_that_cannot_be_written_is_not_blamed_on_the_run(call, run: Path) -> None:
    (run.parent / "file").write_text("")
    result = call("predict", run, "rows.jsonl", "--output", "file/out.jsonl")
    assert result.returncode == 1
    assert "cannot write" in result.stderr
    assert "--run-dir" not in result.stderr


def test_a_run_whose_training_does_not_belong_to_its_configuration(
    call, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(config: object, folder: object) -> None:
        raise DataError("the configuration has changed since this student was trained")

    monkeypatch.setattr("mlxdistill.pipeline.train.check_finished", refuse)
    assert "has changed since" in call("predict", run, "rows.jsonl").stderr


def test_an_error_and_what_was_done_as_json(call, run: Path) -> None:
    done = call("predict", run, "rows.jsonl", "--output", "out.jsonl", "--json")
    assert json.loads(done.stdout) == {"output": "out.jsonl", "rows": 2, "left_out": 2, "truncated": 1}
    assert len((run.parent / "out.jsonl").read_text().splitlines()) == 2
    assert "error" not in call("predict", run, "rows.jsonl", "--json").stdout
    failed = call("predict", run, "gone.jsonl", "--json")
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["error"]["message"] == "no such file"


STREAMED = """
import contextlib, sys
import mlxdistill.pipeline.train as train
from mlxdistill.cli import main
from mlxdistill.tasks.protocols import Answer
from mlxdistill.workers import stop_signals

class Student:
    truncated = 0
    def predict(self, rows, progress):
        yield [Answer(row.id, "ok", (0.75, 0.25), "answered") for row in rows]

@contextlib.contextmanager
def open_student(*_):
    with stop_signals():
        yield Student()

train.check_finished = lambda *_: None
train.open_student = open_student
main()
"""


@pytest.fixture
def streamed(run: Path) -> Iterator[subprocess.Popen[str]]:
    """`predict RUN -` with a pipe at each end; one row has been written and its answer read."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", STREAMED, "predict", str(run), "-"]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, bufsize=1) as process:
        assert process.stdin
        assert process.stdout
        watch = threading.Timer(60, process.kill)  # a command that keeps its answers back must fail, not hang
        watch.start()
        try:
            process.stdin.write('{"text": "a"}\n\n')
            assert json.loads(process.stdout.readline())["label"] == "ok"
            yield process
        finally:
            watch.cancel()
            process.kill()


def test_rows_on_standard_input_are_answered_while_it_stays_open(streamed: subprocess.Popen[str]) -> None:
    assert streamed.stdin
    assert streamed.stdout
    streamed.stdin.write('broken\n{"text": "b"}\n')
    assert json.loads(streamed.stdout.readline())["label"] == "ok"
    output, errors = streamed.communicate('{"text": "c"}\n{"text": "d"}\n', timeout=60)
    assert len(output.splitlines()) == 2
    assert "-:3 is left out: not JSON" in errors
    assert streamed.returncode == 0


def test_a_reader_that_has_seen_enough_is_no_error(streamed: subprocess.Popen[str]) -> None:
    assert streamed.stdin
    assert streamed.stdout
    streamed.stdout.close()
    streamed.stdin.write('{"text": "b"}\n')
    assert streamed.wait(60) == 0
    assert streamed.stderr
    assert streamed.stderr.read() == ""


def test_ctrl_c_ends_the_wait_for_rows(streamed: subprocess.Popen[str]) -> None:
    streamed.send_signal(signal.SIGINT)
    assert streamed.wait(60) == 130
    assert streamed.stderr
    assert streamed.stderr.read().startswith("error: interrupted\n  hint: the rows printed so far are whole")
