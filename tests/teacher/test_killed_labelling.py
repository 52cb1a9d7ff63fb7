"""What stops labelling costs nothing that was answered: kill -9, in the short form (`scripts/soak.py` alone does it a
hundred times), and a full disk."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "scripts" / "soak.py"
CONFIG = """\
name: small
task:
  instruction: Is it toxic?
  labels: {{ok: fine, toxic: bad}}
data:
  source: rows.jsonl
  fields: {{text: text, id: id, gold: gold}}
  valid: 20
  test: {{indist: 20, balanced: 20}}
teacher: {{model: "{model}", n_ctx: 256, threads: 1}}
student: {{model: embedded:student}}
"""


def test_five_kills_lose_double_and_tear_no_answer(tiny_gguf: Path) -> None:
    command = [sys.executable, SOAK, "--kills", "5", "--rows", "300", "--model", tiny_gguf]
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr + result.stdout
    outcome = json.loads(result.stdout)
    assert outcome["kills"] == 5
    assert outcome["kills_in_the_midst"] > 0
    assert outcome["rounds"] > 0
    assert not any(outcome[name] for name in ("lost", "doubled", "different", "torn", "failed"))


def test_a_full_disk_is_said_and_what_was_committed_stays_usable(tiny_gguf: Path, tmp_path: Path) -> None:
    """On a file system of its own, first too small, then large enough."""
    rows = [{"id": f"{row:03}", "text": f"text {row}", "gold": ("ok", "toxic")[row % 2]} for row in range(400)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (tmp_path / "config.yaml").write_text(CONFIG.format(model=tiny_gguf), "utf-8")
    disk = tmp_path / "disk"
    disk.mkdir()
    command = f"{sys.executable} -m mlxdistill"
    script = f"""
    mount -t tmpfs -o size=500k tmpfs {disk} || exit 77
    {command} ingest config.yaml --run-dir {disk}/run --quiet >&2 || exit 1
    {command} label config.yaml --run-dir {disk}/run --quiet 2>full >&2; echo $?
    cp -r {disk}/run full-run
    mount -o remount,size=20m {disk}
    {command} labels stats {disk}/run --json > stats || exit 1
    {command} label config.yaml --run-dir {disk}/run --quiet >&2; echo $?
    cp -r {disk}/run whole-run
    """
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    if result.returncode == 77 or "unshare" in result.stderr:
        pytest.skip("filling a disk needs one of its own, and this system lets nobody mount one in a user namespace")
    assert result.stdout.split() == ["1", "0"], result.stderr
    message = (tmp_path / "full").read_text()
    assert message.splitlines()[0].endswith("labels.sqlite: cannot use the label store: database or disk is full")
    assert "free some disk space" in message
    assert len(message.splitlines()) == 2
    before, after = stored(tmp_path / "full-run"), stored(tmp_path / "whole-run")
    assert 0 < len(before) < 400
    assert len(after) == 400
    assert set(before) <= set(after)
    (teacher,) = json.loads((tmp_path / "stats").read_text())["labellers"]
    assert teacher["answers"] == len(before)


def stored(run: Path) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(run / "labels.sqlite")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return connection.execute("SELECT row_id, label, probabilities FROM answers").fetchall()
