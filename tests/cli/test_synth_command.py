"""`mlxdistill synth`: what it says to the careless, what it prints, and what survives kill -9."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlxdistill.demo import HERE
from mlxdistill.rundir.layout import RunDir

CONFIG = """\
name: small
task:
  instruction: Decide whether a message to the bank must be seen by a person today.
  labels: {report: a theft or misuse, other: everything else}
data:
  source: rows.jsonl
  fields: {text: text, gold: label, id: id}
  valid: 8
  test: {indist: 8, balanced: null}
teacher: {model: embedded:teacher, n_ctx: 512, n_batch: 256, n_seq: 8, kv: unified, threads: 1}
student: {model: embedded:student}
synth: {prompt: prompt.txt, temperature: 0.7, max_tokens: 40, min_confidence: 0.0, seeds: 2}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    lines = [json.loads(line) for line in (HERE / "messages.jsonl").read_text("utf-8").splitlines()]
    random.Random(0).shuffle(lines)
    rows = [[line for line in lines if line["label"] == label][:30] for label in ("report", "other")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[0] + rows[1]), "utf-8")
    (tmp_path / "prompt.txt").write_text("{examples}\n{answer}", "utf-8")
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG, "utf-8")
    return path


def error_of(result, code: int) -> str:
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


def test_mistakes_are_said_before_anything_is_written(call, config: Path, tmp_path: Path) -> None:
    for arguments, said in {
        ("--class", "report"): "'report' is not LABEL=N",
        ("--class", "report=0"): "'report=0' is not LABEL=N",
        ("--class", "toxic=3"): "'toxic' is no label of the task",
        ("--class", "report=3", "--rows", "4"): "give --rows or --class, not both",
        ("--clear", "--rows", "4"): "--clear writes no rows",
        ("--set", "synth.classes={repot: 4}"): "`synth.classes` names 'repot', which is no label of the task",
        ("--set", "synth.rows=3", "--set", "synth.classes={report: 4}"): "give one of them",
        ("--set", "synth.prompt=gone.txt"): "cannot read the prompt",
        ("--set", "synth.prompt=rows.jsonl"): "holds {examples} exactly once, this one 0 times",
        ("--set", "synth.temperature=0"): "synth.temperature",
    }.items():
        assert said in error_of(call("synth", config, *arguments), 2), arguments
    assert not (tmp_path / "runs" / "small" / "rows").exists()


def test_answers_in_a_log_write_nothing(call, config: Path, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("{}\n", "utf-8")
    config.write_text(
        CONFIG.replace(
            "model: embedded:teacher, n_ctx: 512, n_batch: 256, n_seq: 8, kv: unified, threads: 1", "log: log.jsonl"
        )
    )
    said = error_of(call("synth", config), 2)
    assert "a recorded teacher (`log`) cannot write new rows" in said
    assert "add a teacher with a `model`" in said


def test_nothing_is_removed_where_nothing_was_written(call, config: Path) -> None:
    assert call("ingest", config).returncode == 0
    result = call("synth", config, "--clear")
    assert (result.returncode, result.stdout) == (0, "0 synthetic rows removed\n")
    assert json.loads(call("synth", config, "--clear", "--json").stdout)["removed"] == 0


def test_a_model_that_cannot_write_is_given_up_and_a_kill_loses_no_draft(config: Path, tmp_path: Path) -> None:
    """The embedded teacher is a tiny model for labels: what it writes is hardly ever a message."""
    arguments = [sys.executable, "-m", "mlxdistill", "synth", str(config), "--class", "report=3", "--json"]
    process = subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    run, deadline = RunDir(tmp_path / "runs" / "small"), time.monotonic() + 120
    while not run.drafts.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    before = run.drafts.read_bytes()
    assert before
    result = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    outcome = json.loads(result.stdout)
    assert result.returncode == (0 if outcome["complete"] else 1), result.stderr
    assert run.drafts.read_bytes().startswith(before)
    found = outcome["classes"]["report"]
    assert found["drafts"] == found["accepted"] + sum(found["rejected"].values()) <= 30
    assert found["rejected"]
    rows = run.synthetic.read_text("utf-8").splitlines() if run.synthetic.exists() else []
    assert len(rows) == found["accepted"] == outcome["rows"]
    log = run.log.read_text("utf-8")
    assert '"event": "synthesised"' in log
    drafts = [json.loads(line).get("text") for line in run.drafts.read_text("utf-8").splitlines()]
    assert not any(text in log for text in drafts if text and len(text) > 20)
