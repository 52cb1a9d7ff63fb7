"""Every command explains itself, and importing the command line costs next to nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest
from syrupy.assertion import SnapshotAssertion

COMMANDS = [
    (),
    ("demo",),
    ("init",),
    ("doctor",),
    ("pull",),
    ("plan",),
    ("run",),
    ("ingest",),
    ("label",),
    ("filter",),
    ("train",),
    ("eval",),
    ("report",),
    ("prompts",),
    ("synth",),
    ("predict",),
    ("review",),
    ("data",),
    ("data", "check"),
    ("labels",),
    ("labels", "show"),
    ("labels", "export"),
    ("labels", "stats"),
    ("config",),
    ("config", "show"),
    ("config", "schema"),
]
HEAVY = (
    "mlx",
    "mlx_lm",
    "llama_cpp",
    "datasets",
    "transformers",
    "sklearn",
    "scipy",
    "numpy",
    "pyarrow",
    "rich",
    "pydantic",
    "yaml",
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help(mlxdistill, snapshot: SnapshotAssertion, command: tuple[str, ...]) -> None:
    result = mlxdistill(*command, "--help")
    assert result.returncode == 0
    assert result.stderr == ""
    assert result.stdout == snapshot


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv = ['mlxdistill', '--help']\n"
        "from mlxdistill.cli import main\n"
        "try: main()\n"
        f"except SystemExit: print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "[]"
