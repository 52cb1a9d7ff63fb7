"""What a user is told when a training's process dies: the setting to try, and which command goes on."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_students import train_request

from mlxdistill.errors import WorkerError
from mlxdistill.student.requests import TrainStart
from mlxdistill.student.trainer import out_of_memory_hint, train_student
from mlxdistill.workers import Worker

ModelFolder = Callable[[str], Path]
START = TrainStart("f", 3, 8, 30, 10, largest_part=4096, longest_row=600, quantized=False)


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> list[Worker]:
    """Those that were started."""
    started: list[Worker] = []
    enter = Worker.__enter__
    monkeypatch.setattr(Worker, "__enter__", lambda self: (started.append(self), enter(self))[1])
    return started


def test_half_of_what_ran_is_the_first_setting_to_try(tmp_path: Path) -> None:
    hint = out_of_memory_hint(train_request(tmp_path, tmp_path), START)
    assert hint == (
        "the same command with --set train.batch_tokens=2048 goes on from the last checkpoint; "
        "if that is not enough, add --set train.gradient_checkpointing=true; "
        "with --set student.quantize=4 it starts anew; else use a smaller model or a smaller student.max_tokens"
    )


@pytest.mark.parametrize(
    ("start", "train", "named", "unnamed"),
    [
        ({"largest_part": 1000}, {}, ["batch_tokens=600"], []),
        ({"largest_part": 600}, {}, ["with --set train.gradient_checkpointing=true goes on"], ["batch_tokens"]),
        ({"largest_part": 600}, {"gradient_checkpointing": True}, ["quantize"], ["batch_tokens", "goes on"]),
        ({"quantized": True}, {}, ["batch_tokens=2048"], ["quantize"]),
        ({"largest_part": 24, "longest_row": 8}, {}, ["batch_tokens=16"], []),
    ],
    ids=str,
)
def test_no_setting_is_named_that_cannot_help(
    tmp_path: Path, start: dict[str, Any], train: dict[str, Any], named: list[str], unnamed: list[str]
) -> None:
    hint = out_of_memory_hint(train_request(tmp_path, tmp_path, train=train), replace(START, **start))
    assert all(text in hint for text in named), hint
    assert not any(text in hint for text in unnamed), hint


def test_before_the_training_has_begun_only_the_model_can_be_too_large(tmp_path: Path) -> None:
    hint = out_of_memory_hint(train_request(tmp_path, tmp_path), None)
    assert hint == "close other programs, or use a smaller or a quantized model"


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not limit a process's address space")
def test_a_training_that_gets_no_more_memory_says_what_to_set(
    model_folder: ModelFolder, work: Path, progress: Any, workers: list[Worker]
) -> None:
    """The system refuses it any more from its start on; MLX without Metal does not look whether it got what it asked
    for."""

    def refuse(report: Any) -> None:
        if isinstance(report, TrainStart):
            process = workers[0]._process.pid
            status = Path(f"/proc/{process}/status").read_text().splitlines()
            used = next(int(line.split()[1]) for line in status if line.startswith("VmSize:")) * 1024
            resource.prlimit(process, resource.RLIMIT_AS, (used, used))

    request = train_request(model_folder("llama"), work, train={"batch_size": 30})
    with pytest.raises(WorkerError, match=r"ended \(SIG|too little memory") as caught:
        train_student(request, progress, refuse)
    assert "train.batch_tokens=" in (caught.value.hint or "")
    assert "memory" in f"{caught.value} {caught.value.hint}"


def test_a_training_killed_for_want_of_memory_goes_on_with_the_setting_that_was_named(
    model_folder: ModelFolder, work: Path, progress: Any, workers: list[Worker]
) -> None:
    def kill(report: Any) -> None:
        if report.step == 4:
            os.kill(workers[0]._process.pid, signal.SIGKILL)

    request = train_request(model_folder("llama"), work, lora={"dropout": 0.1})
    with pytest.raises(WorkerError, match="SIGKILL") as caught:
        train_student(request, progress, kill)
    hint = caught.value.hint or ""
    tokens = int(hint.partition("train.batch_tokens=")[2].split()[0])
    again = replace(request, train=request.train.model_copy(update={"batch_tokens": tokens}))
    starts: list[Any] = []
    result = train_student(again, progress, starts.append)
    assert starts[0].step == 4
    assert starts[0].largest_part <= tokens
    assert result.steps == 8
    assert "going on from the checkpoint of step 4 of 8" in progress.notes[-1]
