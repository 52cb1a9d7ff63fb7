"""Stopping costs nothing: the same command goes on, and the end is the same as if it had never stopped."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests_pipeline import command, write_task

ADAPTER = "student/adapters/adapters.safetensors"


def start(config: Path, folder: Path, *more: str) -> subprocess.Popen[str]:
    arguments = command("run", config, "--run-dir", folder, *more)
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def answered(folder: Path) -> int:
    if not (folder / "labels.sqlite").exists():
        return 0
    try:
        with sqlite3.connect(f"file:{folder}/labels.sqlite?mode=ro", uri=True) as connection:
            count = connection.execute("SELECT count(*) FROM answers").fetchone()[0]
        connection.close()
    except sqlite3.OperationalError:
        return 0
    return int(count)


def answers(folder: Path) -> list[tuple]:
    with sqlite3.connect(folder / "labels.sqlite") as connection:
        rows = connection.execute("SELECT row_id, label, probabilities FROM answers ORDER BY row_id").fetchall()
    connection.close()
    return rows


def checkpoints(folder: Path) -> int:
    return len(list(folder.glob("student/checkpoints/[0-9]*")))


def test_the_same_seed_gives_the_same_bytes(finished: Path, tmp_path: Path, cli) -> None:
    config = finished.parent / "config.yaml"
    assert cli("run", config, "--run-dir", tmp_path / "again").returncode == 0
    for name in ("pool", "valid", "test_indist", "test_balanced"):
        assert (tmp_path / f"again/rows/{name}.jsonl").read_bytes() == (finished / f"rows/{name}.jsonl").read_bytes()
    assert answers(tmp_path / "again") == answers(finished)
    assert (tmp_path / "again" / ADAPTER).read_bytes() == (finished / ADAPTER).read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_a_stop_while_labelling(finished: Path, tmp_path: Path, cli, number: int) -> None:
    config, folder = finished.parent / "config.yaml", tmp_path / "run"
    process = start(config, folder)
    wait_until(lambda: answered(folder) > 0, process)
    os.kill(process.pid, number)
    _, stderr = process.communicate(timeout=120)
    if number == signal.SIGINT:
        assert process.returncode == 130, stderr
        assert "goes on from here" in stderr
    before = answered(folder)
    assert 0 < before < 240
    assert cli("run", config, "--run-dir", folder).returncode == 0
    assert answers(folder) == answers(finished)
    assert (folder / ADAPTER).read_bytes() == (finished / ADAPTER).read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_a_stop_while_training(finished: Path, tmp_path: Path, cli, number: int) -> None:
    config, folder = finished.parent / "config.yaml", tmp_path / "run"
    process = start(config, folder)
    wait_until(lambda: checkpoints(folder) > 0, process)
    os.kill(process.pid, number)
    _, stderr = process.communicate(timeout=120)
    if number == signal.SIGINT:
        assert process.returncode == 130, stderr
    result = cli("run", config, "--run-dir", folder, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["skipped"][:3] == ["ingest", "label", "filter"]
    assert (folder / ADAPTER).read_bytes() == (finished / ADAPTER).read_bytes()


def test_two_runs_in_one_folder(finished: Path, tmp_path: Path, cli) -> None:
    config, folder = finished.parent / "config.yaml", tmp_path / "run"
    process = start(config, folder)
    wait_until(lambda: (folder / "manifest.json").exists(), process)
    second = cli("run", config, "--run-dir", folder)
    assert second.returncode == 1
    assert f"process {process.pid}" in second.stderr
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130


def test_a_full_disk_is_said_and_nothing_is_lost(tmp_path: Path) -> None:
    """On a file system of 600 kB, mounted in a namespace of its own."""
    config, disk = write_task(tmp_path), tmp_path / "disk"
    disk.mkdir()
    run = " ".join(command("run", config, "--run-dir", disk / "run"))
    script = f"mount -t tmpfs -o size=600k tmpfs {disk} || exit 77; {run}; code=$?; ls -R {disk}; exit $code"
    result = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False)
    if result.returncode == 77 or "unshare" in result.stderr:
        pytest.skip("filling a disk needs one of its own, and this system lets nobody mount one in a user namespace")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "free some disk space" in result.stderr
    assert ".tmp" not in result.stdout
