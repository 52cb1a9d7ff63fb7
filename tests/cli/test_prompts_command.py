"""`mlxdistill prompts`: what it prints, what it asks, and what it says to the careless."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
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
  test: {indist: 20, balanced: 10}
teacher: {model: embedded:teacher, n_ctx: 512, n_batch: 256, n_seq: 8, kv: unified, threads: 1}
student: {model: embedded:student}
evaluate: {bootstrap: 200}
"""
SHORT = "{instruction}\n{text}\nAnswer with one of: {names}."
NONSENSE = "Write a poem about {names}.\n{text}\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Half of the rows are reports."""
    lines = [json.loads(line) for line in (HERE / "messages.jsonl").read_text("utf-8").splitlines()]
    random.Random(0).shuffle(lines)
    rows = [[line for line in lines if line["label"] == label][:75] for label in ("report", "other")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[0] + rows[1]), "utf-8")
    (tmp_path / "short.txt").write_text(SHORT, "utf-8")
    (tmp_path / "nonsense.txt").write_text(NONSENSE, "utf-8")
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG, "utf-8")
    return path


def outcome_of(result) -> dict:
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def answers_in(folder: Path) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(folder / "labels.sqlite")) as store:
        return store.execute("SELECT labeller, row_id, sample, seconds FROM answers ORDER BY 1, 2, 3").fetchall()


def test_three_prompts_side_by_side(call, config: Path, tmp_path: Path) -> None:
    arguments = ("prompts", config, "--prompt", "short.txt", "--prompt", "nonsense.txt", "--prompt", "./short.txt")
    result = call(*arguments, "--json")
    outcome = outcome_of(result)
    assert "short.txt reads like the prompt `short`, and is not asked again" in result.stderr
    assert [entry["name"] for entry in outcome["candidates"]] == ["default", "short", "nonsense"]
    assert (outcome["n"], sum(outcome["class_counts"].values())) == (40, 40)
    for entry in outcome["candidates"]:
        assert entry["answered"] == 40
        low, high = entry["accuracy"]["ci"]
        assert low <= entry["accuracy"]["value"] <= high
        assert entry["tokens_per_row"] > 10
        assert entry["rows_per_second"] > 0
    folder = tmp_path / "runs" / "small"
    assert json.loads((folder / "evaluation" / "prompts.json").read_text("utf-8")) == outcome
    before = answers_in(folder)
    assert len(before) == 120

    again = call(*arguments)
    assert again.returncode == 0, again.stderr
    assert answers_in(folder) == before
    assert again.stderr.count("0 answers, 40 from the store") == 3
    shown = json.loads((folder / "evaluation" / "prompts.json").read_text("utf-8"))
    assert shown == outcome  # also what the answers took
    for said in (*(entry["name"] for entry in outcome["candidates"]), "95 % interval", *outcome["caveats"]):
        assert said in again.stdout
    assert len(outcome["caveats"]) == 2


def test_test_sets_are_not_read(call, config: Path, tmp_path: Path) -> None:
    assert call("ingest", config).returncode == 0
    outcome_of(call("prompts", config, "--rows", "10", "--json"))
    asked = {row_id for _, row_id, _, _ in answers_in(tmp_path / "runs" / "small")}
    valid = (tmp_path / "runs" / "small" / "rows" / "valid.jsonl").read_text("utf-8").splitlines()
    assert len(asked) == 10
    assert asked <= {json.loads(line)["id"] for line in valid}


def test_more_rows_take_in_the_fewer(call, config: Path, tmp_path: Path) -> None:
    for rows, new, kept in (("8", 8, ""), ("20", 12, ", 8 from the store"), ("500", 20, ", 20 from the store")):
        result = call("prompts", config, "--rows", rows, "--json")
        outcome_of(result)
        assert f"default: {new} answers{kept}\n" in result.stderr
    assert "only 40 validation rows have gold" in result.stderr


def test_what_the_label_stage_answered_is_not_asked_again(call, config: Path, tmp_path: Path) -> None:
    assert call("ingest", config).returncode == 0
    assert call("label", config).returncode == 0
    before = answers_in(tmp_path / "runs" / "small")
    result = call("prompts", config)
    assert result.returncode == 0, result.stderr
    assert "default: 0 answers, 40 from the store" in result.stderr
    assert answers_in(tmp_path / "runs" / "small") == before
    assert "there is nothing to compare it with" in result.stdout
    assert "only candidate" in result.stdout


def test_a_stop_pays_for_nothing_twice(config: Path, tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "mlxdistill", "prompts", str(config), "--prompt", "short.txt", "--json"]
    arguments += ["--set", "teacher.n_batch=64", "--set", "teacher.n_seq=1"]
    process = subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    folder, deadline = tmp_path / "runs" / "small", time.monotonic() + 60
    kept = 0
    while not kept and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
        with contextlib.suppress(sqlite3.OperationalError):
            kept = len(answers_in(folder)) if (folder / "labels.sqlite").exists() else 0
    os.kill(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert json.loads(stdout)["error"]["hint"]
    before = answers_in(folder)
    assert 0 < len(before) < 80
    assert not (folder / "evaluation" / "prompts.json").exists()
    again = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=True)
    after = answers_in(folder)
    assert len(after) == 80
    assert set(before) <= set(after)  # to the second that each took: none was asked again
    assert [entry["answered"] for entry in json.loads(again.stdout)["candidates"]] == [40, 40]


def error_of(result, code: int) -> str:
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


def test_mistakes_are_found_before_anything_is_read(call, config: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("no place for it", "utf-8")
    said = error_of(call("prompts", config, "--prompt", "empty.txt", "--prompt", "gone.txt"), 2)
    assert "error: --prompt: empty.txt: a prompt holds {text} exactly once, this one 0 times\n" in said
    assert "error: --prompt: cannot read the prompt gone.txt: " in said
    said = error_of(call("prompts", config, "--temperature", "0.7"), 2)
    assert "error: --temperature: temperatures are of generated answers, and no teacher generates" in said
    assert "add --answer generate" in said
    assert error_of(call("prompts", config, "--temperature", "-1"), 2)
    assert error_of(call("prompts", config, "--rows", "0"), 2)
    assert error_of(call("prompts", config, "--answer", "sing"), 2)
    said = error_of(call("prompts", config, "--set", "teacher.model=gone.gguf"), 1)
    assert "gone.gguf" in said
    assert not (tmp_path / "runs").exists()


def test_without_gold_nothing_can_be_told(call, config: Path) -> None:
    config.write_text(CONFIG.replace(" gold: label,", ""), "utf-8")
    said = error_of(call("prompts", config), 1)
    assert "none of the 40 validation rows has gold" in said
    assert "data.fields.gold" in said


def test_a_change_names_the_keys_to_set(call, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {
        "name": "default · score",
        "configured": True,
        "file": None,
        "answer": "score",
        "temperature": None,
        "unparsable": 0,
        "truncated": 0,
        "accuracy": {"value": 0.7, "ci": [0.6, 0.8]},
        "balanced_accuracy": {"value": 0.7, "ci": [0.6, 0.8]},
        "tokens_per_row": None,
        "rows_per_second": None,
        "against_best": {"difference": -0.15, "ci": [-0.2, -0.1], "p_adjusted": 0.0004},
        "verdict": "worse",
    }
    new = {"name": "long · generate · 0.7", "file": "long.txt", "answer": "generate", "temperature": 0.7}
    better = {**own, **new, "configured": False, "verdict": "most rows right", "against_best": None}
    outcome = {
        "n": 80,
        "candidates": [own, better],
        "recommendations": [
            {
                "teacher": "teacher",
                "configured": own["name"],
                "recommended": better["name"],
                "sentence": "Use long instead.",
            }
        ],
        "caveats": [],
    }
    monkeypatch.setattr("mlxdistill.experiments.prompts.compare_prompts", lambda *arguments: outcome)
    lines = call("prompts", config).stdout.splitlines()
    assert lines[-2:] == [
        "Use long instead.",
        "  in the configuration, under teacher: prompt: long.txt, answer: generate, temperature: 0.7",
    ]
    shown = next(line for line in lines if line.startswith("default · score"))
    assert shown.split()[3:] == ["70.0", "%", "70.0", "%", "0", "–", "–", "−15.0", "<", "0.001", "worse"]
