"""However a command ends, it ends in an orderly way: one line or one JSON object, the right code, no traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlxdistill.privacy import guard


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mlxdistill.config.load.load_config", stop)


@pytest.mark.usefixtures("interrupted")
def test_ctrl_c_outside_a_worker_is_one_line_and_code_130(call) -> None:
    result = call("config", "show", "config.yaml")
    assert result.returncode == 130
    assert result.stderr.splitlines()[0] == "error: interrupted"
    assert "Traceback" not in result.stderr


@pytest.mark.usefixtures("interrupted")
def test_ctrl_c_as_json(call) -> None:
    result = call("config", "show", "config.yaml", "--json")
    assert result.returncode == 130
    assert json.loads(result.stdout)["error"]["message"] == "interrupted"


def test_a_real_ctrl_c_is_caught(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.yaml")
    command = [sys.executable, "-m", "mlxdistill", "config", "show", "config.yaml"]
    with (
        subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process,
        (tmp_path / "config.yaml").open("wb"),  # opens once the command reads
    ):
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.startswith("error: interrupted\n")


@pytest.mark.parametrize("flags", [[], ["--json"]], ids=["text", "json"])
def test_debug_adds_the_traceback_and_changes_nothing_else(call, flags: list[str]) -> None:
    plain = call("config", "show", "nothing.yaml", *flags)
    debug = call("config", "show", "nothing.yaml", *flags, "--debug")
    assert plain.returncode == debug.returncode == 2
    assert plain.stdout == debug.stdout
    assert debug.stderr.startswith("Traceback")
    assert debug.stderr.endswith(plain.stderr)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--json"], "Missing argument 'CONFIG'"),
        (["doctor", "--json", "--nothing"], "No such option: --nothing"),
        (["nonsense", "--json"], "No such command 'nonsense'"),
    ],
)
def test_a_wrong_command_line_as_json(call, arguments: list[str], message: str) -> None:
    result = call(*arguments)
    assert result.returncode == 2
    error = json.loads(result.stdout)["error"]
    assert message in error["message"]
    assert error["where"].startswith("mlxdistill")
    assert error["hint"].endswith("--help")


def test_a_reader_that_goes_away_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "mlxdistill", "config", "schema"]
    result = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["init", "x", "--labels", "a"], True),
        (["config", "schema"], True),
        (["config", "show", "nothing.yaml"], True),
        (["doctor", "nothing.yaml"], True),
        (["run", "nothing.yaml"], True),
        (["predict", "nothing", "-"], True),
        (["pull", "no-hub-id"], False),
        (["--help"], False),
    ],
    ids=str,
)
def test_every_command_but_pull_is_guarded(
    call, monkeypatch: pytest.MonkeyPatch, command: list[str], expected: bool
) -> None:
    installed: list[bool] = []
    monkeypatch.setattr(guard, "install_guard", lambda: installed.append(True))
    call(*command)
    assert bool(installed) == expected


def test_the_guard_stops_a_command() -> None:
    script = (
        "import socket, sys; sys.argv = ['mlxdistill', 'config', 'schema']\n"
        "from mlxdistill.config.models import Config\n"
        "Config.model_json_schema = lambda: socket.create_connection(('192.0.2.1', 80), 0.1)\n"
        "from mlxdistill.cli import main; main()"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "192.0.2.1 was blocked" in result.stderr
