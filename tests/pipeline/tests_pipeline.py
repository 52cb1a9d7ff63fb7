from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlxdistill.demo import HERE

CONFIG = """\
name: small
task:
  instruction: Decide whether a message to the bank must be seen by a person today.
  labels: {report: a theft or misuse, other: everything else}
data:
  source: rows.jsonl
  fields: {text: text, gold: label, id: id}
  valid: 40
  seed: 11
  test: {indist: 40, balanced: 30}
teacher: {model: embedded:teacher, n_ctx: 512}
student: {model: embedded:student, lora: {rank: 4, scale: 2.0, layers: 2, dropout: 0.1}, max_tokens: 256}
train: {epochs: 2, batch_size: 8, learning_rate: 1.0e-3, seed: 12}
evaluate: {bootstrap: 200, seed: 13}
"""


def write_task(folder: Path, config: str = CONFIG, rows: int = 240) -> Path:
    """A small task of the demo's rows, half of them reports."""
    lines = [json.loads(line) for line in (HERE / "messages.jsonl").read_text("utf-8").splitlines()]
    random.Random(0).shuffle(lines)
    for label in ("report", "other"):
        lines = [row for row in lines if row["label"] != label] + [row for row in lines if row["label"] == label][
            : rows // 2
        ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines), "utf-8")
    path = folder / "config.yaml"
    path.write_text(config, "utf-8")
    return path


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "mlxdistill", *map(str, arguments)]


def run(*arguments: str | Path, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "NO_COLOR": "1"},
        check=False,
    )


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole small run; tests read it and do not change it."""
    folder = tmp_path_factory.mktemp("finished")
    result = run("run", write_task(folder), "--run-dir", folder / "run", cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder / "run"


@pytest.fixture
def cli(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def call(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return run(*arguments, cwd=tmp_path, stdin=stdin)

    return call
