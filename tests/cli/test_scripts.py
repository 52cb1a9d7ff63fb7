"""The scripts of a fresh checkout, with stand-ins for what takes minutes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copytree(
        ROOT / "scripts", tmp_path / "scripts", ignore=lambda *_: {"demo_models", "demo_cores", "__pycache__"}
    )
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def run(checkout: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PATH": f"{checkout / 'bin'}:/usr/bin:/bin",
        "PYTHON": str(checkout / "bin" / "fake-python"),
        "XDG_CACHE_HOME": str(checkout / "cache"),
    }
    environment.pop("CXX", None)
    command = [str(checkout / "scripts" / script), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def fake_venv(checkout: Path, pip_status: int) -> None:
    """A Python whose `venv` makes one with, or without, pip."""
    inner = f'case "$*" in *pip*) exit {pip_status};; *) echo some-platform;; esac'
    program(
        checkout / "bin" / "fake-python",
        f"""case "$*" in
*venv*) mkdir -p .venv/bin; printf '#!/bin/sh\\n%s\\n' '{inner}' >.venv/bin/python; chmod 755 .venv/bin/python;;
esac
""",
    )


def test_setup_without_pip_in_the_environment_says_so_every_time(checkout: Path) -> None:
    fake_venv(checkout, pip_status=1)
    for _ in range(2):
        result = run(checkout, "setup")
        assert result.returncode == 1
        assert "python3-venv" in result.stderr


def test_setup_makes_a_broken_environment_again(checkout: Path) -> None:
    program(checkout / ".venv/bin/python", "exit 1")
    (checkout / ".venv" / "old").touch()
    fake_venv(checkout, pip_status=0)
    for name in ("c++", "g++", "clang++"):
        program(checkout / "bin" / name, "exit 1")
    assert "C++ compiler" in run(checkout, "setup").stderr
    assert not (checkout / ".venv" / "old").exists()


def test_setup_does_not_believe_a_compiler_that_only_exists(checkout: Path) -> None:
    fake_venv(checkout, pip_status=0)
    for name in ("c++", "g++", "clang++"):
        program(checkout / "bin" / name, "echo 'no developer tools were found' >&2; exit 1")
    result = run(checkout, "setup")
    assert result.returncode == 1
    assert result.stderr.startswith("error: a C++ compiler is needed")
    program(checkout / "bin" / "g++", "exit 0")
    words = run(checkout, "setup").stderr
    assert "building llama.cpp" in words
    assert "installing the locked build tools" in words


@pytest.mark.parametrize("script", ["demo", "test"])
def test_the_note_about_blas_comes_last_and_the_exit_code_stays(checkout: Path, script: str) -> None:
    program(checkout / "scripts" / "setup", "exit 0")
    program(checkout / "bin" / "uname", "echo Linux")
    program(checkout / ".venv/bin/mlxdistill", "echo ran >&2; exit 3")
    program(
        checkout / ".venv/bin/python",
        'case "$*" in *load_blas*) echo "reference BLAS";; *) echo ran >&2; exit 3;; esac',
    )
    result = run(checkout, script, "-x")
    assert result.returncode == 3
    assert result.stderr.splitlines()[-2] == "ran"
    assert "libopenblas0-pthread" in result.stderr.splitlines()[-1]


def test_the_note_about_blas_comes_also_after_a_failed_check(checkout: Path) -> None:
    program(checkout / "scripts" / "setup", "exit 0")
    program(checkout / "bin" / "uname", "echo Linux")
    program(checkout / ".venv/bin/ruff", "exit 5")
    program(checkout / ".venv/bin/python", 'echo "reference BLAS"')
    result = run(checkout, "test")
    assert result.returncode == 5
    assert "libopenblas0-pthread" in result.stderr


def test_no_note_where_the_blas_is_fast(checkout: Path) -> None:
    program(checkout / "scripts" / "setup", "exit 0")
    program(checkout / ".venv/bin/mlxdistill", "exit 0")
    program(checkout / ".venv/bin/python", "echo OpenBLAS")
    result = run(checkout, "demo")
    assert (result.returncode, "note:" in result.stderr) == (0, False)
