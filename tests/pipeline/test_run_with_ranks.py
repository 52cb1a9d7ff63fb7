"""`mlxdistill run` under `mlx.launch`: every rank comes to its end, and the run is whole."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from tests_pipeline import command


def test_two_ranks_train_and_rank_0_goes_on_to_the_report(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "report.html").unlink()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = [Path(sys.executable).with_name("mlx.launch"), "-n", "2", "--backend", "ring", "--starting-port", port]
    given = ["--run-dir", tmp_path / "run", "--set", "train.epochs=1", "--json"]
    result = subprocess.run(
        [*map(str, launch), "--", *command("run", finished.parent / "config.yaml", *given)],
        cwd=finished.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "NO_COLOR": "1"},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "2 ranks train together, on " in result.stderr
    said = json.loads(result.stdout)  # of rank 0 alone
    assert (said["done"], said["skipped"]) == (["train", "eval", "report"], ["ingest", "label", "filter"])
    figures = json.loads((tmp_path / "run" / "manifest.json").read_text("utf-8"))["stages"]["train"]["figures"]
    assert figures["ranks"] == 2
    assert figures["history"][-1]["valid_loss"] < figures["history"][0]["valid_loss"]
    assert (tmp_path / "run" / "report.html").is_file()
