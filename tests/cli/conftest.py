from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlxdistill.cli import main

Run = Callable[..., subprocess.CompletedProcess[str]]
NOBODY = 65534


@pytest.fixture
def mlxdistill(tmp_path: Path) -> Run:
    """Runs the command line as a user does, in an empty folder."""

    def run(*arguments: str | Path, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mlxdistill", *map(str, arguments)],
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1", **environment},
            check=False,
        )

    return run


@dataclass(frozen=True, slots=True)
class Ended:
    returncode: int
    stdout: str
    stderr: str


Call = Callable[..., Ended]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["mlxdistill", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return Ended(int(end.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def common_folder() -> Iterator[Path]:
    """A folder that every user of this machine may enter, unlike `tmp_path`."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture
def unprivileged(common_folder: Path) -> Run:
    """Runs the command line in `common_folder` as a user who is not root, so that permissions count.

    `before` is run as root: that user may not be permitted to import anything.
    """

    def run(*arguments: str | Path, before: str = "") -> subprocess.CompletedProcess[str]:
        script = (
            f"{before}"
            "import os, encodings.idna, encodings.utf_8_sig, traceback, mlxdistill.data.new_rows\n"
            "import mlxdistill.cli.session, mlxdistill.cli.predict, mlxdistill.privacy.guard\n"
            f"if os.getuid() == 0: os.setgid({NOBODY}); os.setuid({NOBODY})\n"
            "mlxdistill.cli.main()"
        )
        return subprocess.run(
            [sys.executable, "-c", script, *map(str, arguments)],
            cwd=common_folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run
