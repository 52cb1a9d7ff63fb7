"""What several teachers take together: their times add up, and the largest memory counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests_pipeline import CONFIG, run, write_task

TWO = "teacher: [{name: a, model: embedded:teacher, n_ctx: 512}, {name: b, model: embedded:teacher, n_ctx: 256}]"


def test_times_add_up_and_the_largest_memory_counts(tmp_path: Path) -> None:
    config = CONFIG.replace("teacher: {model: embedded:teacher, n_ctx: 512}", TWO)
    path = write_task(tmp_path, config, rows=240)
    assert run("ingest", path, cwd=tmp_path).returncode == 0
    estimate = json.loads(run("label", path, "--estimate", "--json", cwd=tmp_path).stdout)
    one, other = estimate["teachers"].values()
    together = estimate["together"]
    assert together["answers"] == one["answers"]["asked"] + other["answers"]["asked"]
    assert together["tokens"] == one["tokens"]["total"] + other["tokens"]["total"]
    for name in ("value", "low", "high"):
        assert together["seconds"][name] == pytest.approx(one["seconds"][name] + other["seconds"][name])
    assert together["memory_bytes"] == one["memory_bytes"]["total"] > other["memory_bytes"]["total"]
    shown = run("label", path, "--estimate", cwd=tmp_path).stdout
    assert f"together {together['answers']:,} answers, {together['tokens']:,} tokens" in shown
