"""`mlxdistill plan`: what training would take, and what to do where it does not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlxdistill.pipeline import plan as pipeline_plan
from mlxdistill.pipeline.train import training_line
from mlxdistill.student.memory_model import MemoryPlan
from mlxdistill.student.planning import TrainingPlan
from mlxdistill.student.requests import TrainRequest, TrainResult

CONFIG = """\
name: planned
task:
  instruction: Is it toxic?
  labels: {ok: civil, toxic: rude}
data:
  source: rows.jsonl
  fields: {text: text, gold: gold, id: id}
  valid: 20
  test: {indist: 10, balanced: 10}
teacher: {log: log.jsonl}
student: {model: embedded:student, max_tokens: 64}
train: {epochs: 1}
"""
MEMORY = MemoryPlan(
    batch_size=16,
    batch_tokens=None,
    moment="gradients",
    weights=4_000_000_000,
    adapter=30_000_000,
    optimizer=45_000_000,
    activations=9_000_000_000,
    logits=100_000_000,
    cache=30_000_000,
    process=400_000_000,
    mlx_peak=13_175_000_000,
)
PLAN = TrainingPlan(
    rows=1000,
    valid_rows=50,
    truncated=3,
    lengths=(40, 90, 200, 512),
    shared_tokens=12,
    rows_per_epoch=1000,
    steps=126,
    tokens=90_000,
    padding_efficiency=0.94,
    memory=MEMORY,
    working_set=16_000_000_000,
    largest_batch=24,
    batch_tokens=None,
    checkpointing=None,
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG, "utf-8")
    rows = [
        {"id": f"r{number}", "text": f"text {number}" + " and more" * (number % 9), "gold": ("ok", "toxic")[number % 2]}
        for number in range(120)
    ]
    log = [
        {"messages": [{"role": "user", "content": row["text"]}, {"role": "assistant", "content": row["gold"]}]}
        for row in rows
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log), "utf-8")
    return path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[dict[str, Any]]]:
    """The rows of each training that a plan was asked for; the answer is `PLAN`."""
    seen = []

    def answer(request: TrainRequest, progress: Any) -> TrainingPlan:
        lines = (request.data / "train.jsonl").read_text("utf-8").splitlines()
        seen.append([json.loads(line) for line in lines])
        return PLAN

    monkeypatch.setattr(pipeline_plan, "plan_training", answer)
    return seen


def test_a_plan_is_made_of_the_source_and_leaves_nothing_behind(mlxdistill, config: Path) -> None:
    before = sorted(config.parent.rglob("*"))
    result = mlxdistill("plan", config, "--json", "--quiet")
    assert result.returncode == 0, result.stderr
    assert sorted(config.parent.rglob("*")) == before
    found = json.loads(result.stdout)
    memory = found["memory_bytes"]
    parts = ("weights", "adapter", "optimizer", "activations", "logits", "cache", "process")
    assert (found["rows_are"], found["rows"], found["valid_rows"]) == ("source", 80, 10)
    assert found["steps"] == 5
    assert found["fits"]
    assert found["largest_batch"] == 8  # an eighth of the rows
    assert sum(memory[part] for part in parts) == memory["peak"]
    assert 9e6 < memory["weights"] < 12e6  # as the file has


def test_a_student_that_fits(call, config: Path, asked) -> None:
    result = call("plan", config)
    assert result.returncode == 0
    assert "1,000, all of the source that would be labelled" in result.stdout
    assert "3 rows lose the end of their text" in result.stdout
    assert "13.6 GB, while gradients are computed" in result.stdout
    assert result.stdout.endswith("fits: 13.6 GB of 16.0 GB. Nothing was trained.\n")


@pytest.mark.parametrize(
    ("found", "advice"),
    [
        (
            {"batch_tokens": 2048, "largest_batch": 4, "checkpointing": True},
            "--set train.batch_tokens=2048 (the same steps, in parts), or --set train.batch_size=4, "
            "or --set train.gradient_checkpointing=true (slower).",
        ),
        ({"largest_batch": None, "checkpointing": True}, "--set train.gradient_checkpointing=true (slower)."),
        (
            {"largest_batch": None, "checkpointing": False},
            "--set student.quantize=4, a smaller student.max_tokens, or a smaller model.",
        ),
    ],
    ids=["parts", "checkpointing", "smaller"],
)
def test_a_student_that_does_not_fit(call, config: Path, asked, monkeypatch, found, advice: str) -> None:
    short = replace(PLAN, working_set=8_000_000_000, **found)
    monkeypatch.setattr(pipeline_plan, "plan_training", lambda request, progress: short)
    result = call("plan", config)
    assert result.returncode == 1
    last = result.stdout.splitlines()[-1]
    assert last == f"does not fit: 13.6 GB are needed, and 8.0 GB are there. Try {advice}"
    as_json = call("plan", config, "--json")
    assert (as_json.returncode, json.loads(as_json.stdout)["fits"]) == (1, False)


def test_rows_are_those_of_the_run_as_far_as_it_went(call, config: Path, asked) -> None:
    assert call("ingest", config, "--quiet").returncode == 0
    (config.parent / "rows.jsonl").unlink()
    assert json.loads(call("plan", config, "--json").stdout)["rows_are"] == "pool"
    assert {row["label"] for row in asked[-1]} == {"toxic"}  # written longest
    for stage in ("label", "filter"):
        assert call(stage, config, "--quiet").returncode == 0
    assert json.loads(call("plan", config, "--json").stdout)["rows_are"] == "filtered"
    assert {row["label"] for row in asked[-1]} == {"ok", "toxic"}
    assert [row["id"] for row in asked[-1]] == [row["id"] for row in asked[0]]


def test_a_student_that_is_not_here(call, config: Path) -> None:
    result = call("plan", config, "--set", "student.model=org/never-pulled")
    assert result.returncode == 1
    assert "error: org/never-pulled:" in result.stderr
    assert "hint: mlxdistill pull org/never-pulled" in result.stderr


def test_what_was_planned_stands_beside_what_was_measured() -> None:
    result = TrainResult(
        batch_size=8,
        steps=10,
        best_step=8,
        best_valid_loss=None,
        rows_per_second=12.0,
        tokens_per_second=900.0,
        peak_memory_bytes=2_000_000_000,
        mlx_peak_bytes=1_500_000_000,
        truncated=0,
        padding_efficiency=0.9,
        stopped_early=False,
        skipped_steps=0,
        seconds=3.0,
        history=(),
    )
    assert training_line(result).endswith("peak memory 2.0 GB")
    assert training_line(replace(result, predicted_peak_bytes=2_100_000_000)).endswith(
        "peak memory 2.0 GB (2.1 GB planned)"
    )
