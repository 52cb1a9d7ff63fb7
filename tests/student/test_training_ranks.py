"""Ranks of `mlx.launch` train one student: the losses of one rank, and a rank that dies costs nothing but time."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from tiny_students import make_model, train_here, train_request, write_rows

TRAIN = {
    "batch_size": 7,
    "batch_tokens": 128,
    "learning_rate": 0.001,
    "epochs": 8,
    "validations_per_epoch": 1,
    "patience": 100,
}
STEPS = 40
ADAPTER = "adapters.safetensors"


def command(work: Path, folder: str, model: str | None = None) -> list[str]:
    settings = ["student.max_tokens=128", "student.lora.rank=4", "student.lora.scale=8.0"]
    settings += [f"train.{name}={value}" for name, value in TRAIN.items()]
    given = [word for setting in settings for word in ("--set", setting)]
    model = model or str(work / "model")
    return [
        sys.executable,
        "-m",
        "mlxdistill",
        "train",
        "--model",
        model,
        "--data",
        "data",
        "--run-dir",
        folder,
        *given,
    ]


def launched(arguments: list[str]) -> list[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = str(Path(sys.executable).with_name("mlx.launch"))
    return [launch, "-n", "2", "--backend", "ring", "--starting-port", port, "--", *arguments]


def run(work: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run(
        arguments, cwd=work, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, env=environment
    )


def start(work: Path, arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        arguments,
        cwd=work,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200"},
    )


def ranks_of(folder: str) -> list[int]:
    """The processes that `mlx.launch` started for a folder, rank 0, which holds the folder's lock, first."""
    found = [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if folder in (process.info["cmdline"] or ()) and "mlxdistill" in process.info["cmdline"][2:3]
    ]
    (lock,) = (Path(psutil.Process(pid).cwd()) / folder / ".lock" for pid in found[:1])
    return sorted(found, key=lambda pid: lock.read_text() != str(pid))


def wait_until(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def step_of(folder: Path) -> int:
    return max((int(path.name) for path in folder.glob("checkpoints/[0-9]*")), default=0)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and data."""
    work = tmp_path_factory.mktemp("ranks")
    make_model(work / "model")
    write_rows(work / "data" / "train.jsonl", 30)
    write_rows(work / "data" / "valid.jsonl", 10, seed=1)
    return work


def test_ranks_that_are_stopped_and_killed_have_the_losses_of_one_that_is_not(task: Path) -> None:
    shared = task / "shared"
    process = start(task, launched(command(task, "shared")))
    with process:
        wait_until(lambda: step_of(shared) >= 5, process)
        os.kill(ranks_of("shared")[1], signal.SIGINT)  # whichever rank hears it
        _, stderr = process.communicate(timeout=120)
    assert "2 ranks train together, on " in stderr
    assert "rank 0 exited with code 130" in stderr
    assert stderr.count("stopped") == 1  # the other rank ends without a word
    assert "Traceback" not in stderr
    stopped_at = step_of(shared)
    assert 5 <= stopped_at < STEPS

    process = start(task, launched(command(task, "shared")))
    with process:
        wait_until(lambda: step_of(shared) >= stopped_at + 5, process)
        os.kill(ranks_of("shared")[1], signal.SIGKILL)
        _, stderr = process.communicate(timeout=120)
    assert re.search(r"rank 0 on \S+: the connection to another rank was lost", stderr), stderr
    assert "training goes on from rank 0's newest checkpoint" in stderr
    assert "Traceback" not in stderr
    killed_at = step_of(shared)
    assert killed_at < STEPS
    assert not (shared / ADAPTER).exists()

    request = train_request(task / "model", task, lora={}, train=TRAIN, labels=(), prompt=None)
    alone, _ = train_here(request)
    goes_on, reporter = train_here(replace(request, checkpoints=shared / "checkpoints"))  # as one rank
    assert any(f"going on from the checkpoint of step {killed_at} of {STEPS}" in note for note in reporter.notes)
    for event, expected in zip(goes_on.history, alone.history, strict=True):
        for name in ("step", "loss", "valid_loss", "gradient_norm"):
            assert getattr(event, name) == pytest.approx(getattr(expected, name), rel=1e-5), (name, event.step)


def test_another_model_on_one_machine_is_refused(task: Path) -> None:
    shutil.copytree(task / "model", task / "model-0")
    make_model(task / "model-1", "qwen3")
    script = " ".join(command(task, "refused", model=f"{task}/model-$MLX_RANK"))
    result = run(task, launched(["bash", "-c", f"exec {script}"]))
    assert re.search(r"rank 1 on \S+: \S+/model-1: the model on \S+ is not the same as on", result.stderr), (
        result.stderr
    )
    assert "copy the model's whole folder" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (task / "refused" / "checkpoints").exists()
