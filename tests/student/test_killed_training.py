"""What stops a training costs no more than the steps since its last checkpoint: kill -9 and damage in the short form
(`scripts/soak_train.py` alone does it fifty times), a full disk, a second command, Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_students import write_rows

ModelFolder = Callable[[str], Path]
SOAK = Path(__file__).parents[2] / "scripts" / "soak_train.py"


@pytest.fixture
def train(model_folder: ModelFolder, tmp_path: Path) -> list[str]:
    """The command of a short training in `tmp_path`, into the folder `adapters`."""
    write_rows(tmp_path / "data" / "train.jsonl", 30)
    write_rows(tmp_path / "data" / "valid.jsonl", 10, seed=1)
    command = [sys.executable, "-m", "mlxdistill", "train", "--model", str(model_folder("llama")), "--data", "data"]
    for setting in ("lora.rank=4", "lora.dropout=0.1", "max_tokens=128"):
        command += ["--set", f"student.{setting}"]
    return [*command, "--set", "train.batch_size=8", "--set", "train.learning_rate=0.001"]


def test_five_stops_and_damage_change_no_byte(model_folder: ModelFolder) -> None:
    command = [sys.executable, SOAK, "--kills", "5", "--rows", "30", "--model", model_folder("llama")]
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr + result.stdout
    outcome = json.loads(result.stdout)
    assert sum(outcome["stops"].values()) == 5
    assert outcome["in_the_midst"] + outcome["in_a_save"] > 0
    assert outcome["rounds"] > 0
    assert outcome["recognised"] <= outcome["damaged"]
    wrong = list(outcome)[list(outcome).index("different_adapters") : -1]
    assert len(wrong) == 6
    assert not any(outcome[name] for name in wrong)


def test_a_full_disk_is_said_and_the_training_goes_on_when_there_is_room(train: list[str], tmp_path: Path) -> None:
    """On file systems of their own: too small for more than two checkpoints, then for the adapter."""
    command = " ".join(train)
    whole = tmp_path / "whole"
    script = f"""
    {command} --adapter-path {whole} --quiet >&2 || exit 1
    mkdir adapters; mount -t tmpfs -o size=40k tmpfs adapters || exit 77
    mkdir adapters/checkpoints; touch adapters/.lock
    mount -t tmpfs -o size=400k tmpfs adapters/checkpoints || exit 77
    {command} --quiet 2>full >&2; echo $?
    ls adapters/checkpoints
    mount -o remount,size=20m adapters/checkpoints
    {command} 2>no_adapter >&2; echo $?
    mount -o remount,size=20m adapters
    {command} 2>done >&2; echo $?
    cp -r adapters found
    """
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    if result.returncode == 77 or "unshare" in result.stderr:
        pytest.skip("filling a disk needs one of its own, and this system lets nobody mount one in a user namespace")
    first, *kept, second, third = result.stdout.split()
    assert (first, second, third) == ("1", "1", "0"), result.stdout + result.stderr
    assert 1 <= len(kept) <= 2
    full = (tmp_path / "full").read_text().splitlines()
    assert len(full) == 2
    assert "cannot write: no space left on device" in full[0]
    assert "checkpoints" in full[0]
    assert "free some disk space" in full[1]
    no_adapter = (tmp_path / "no_adapter").read_text()
    assert f"going on from the checkpoint of step {int(kept[-1])} of 8" in no_adapter
    assert "adapters.safetensors: cannot write: no space left on device" in no_adapter
    assert "going on" not in (tmp_path / "done").read_text()
    for name in ("adapters.safetensors", "adapter_config.json"):
        assert (tmp_path / "found" / name).read_bytes() == (whole / name).read_bytes()


def test_a_second_command_is_refused_and_a_stopped_one_goes_on(train: list[str], tmp_path: Path) -> None:
    """Stopped by SIGTERM, and by Ctrl-C twice."""
    endless = [*train, "--set", "train.epochs=500", "--set", "train.patience=5000"]
    checkpoints = tmp_path / "adapters" / "checkpoints"
    with subprocess.Popen(endless, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: newest(checkpoints) > 0)
        second = subprocess.run(train, cwd=tmp_path, capture_output=True, text=True, check=False)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
    assert second.returncode == 1
    assert f"another mlxdistill (process {process.pid}) is using this run folder" in second.stderr
    assert process.returncode == 130, errors
    assert "stopping after what the student is doing now" in errors
    assert errors.splitlines()[-2:] == ["error: stopped", "  hint: the same command goes on from here"]
    before = newest(checkpoints)
    with subprocess.Popen(endless, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: newest(checkpoints) > before)
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert f"going on from the checkpoint of step {before} of" in errors
    assert "Traceback" not in errors
    assert newest(checkpoints) > before
    assert not (tmp_path / "adapters" / "adapters.safetensors").exists()


def newest(checkpoints: Path) -> int:
    return max((int(path.name) for path in checkpoints.glob("[0-9]*")), default=0)


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.02)
    pytest.fail("nothing came")
