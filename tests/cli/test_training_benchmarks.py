"""The benchmarks of training: what they compute from what they measure, and that they run from end to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def bench_train(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPTS)
    import bench_train

    return bench_train


@pytest.fixture
def bench_distill(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPTS)
    import bench_distill

    return bench_distill


def test_the_floor_counts_every_product_once(bench_train: ModuleType) -> None:
    from bench_students import Shape
    from bench_trainers import RowSizes

    shape, rank, tokens, supervised = Shape(width=4, layers=2, heads=2, feed_forward=10, vocabulary=50), 3, 5, 2
    total = 0
    for layer in range(2):
        for name, inner, outer in [*((n, 4, 4) for n in "qkvo"), ("gate", 4, 10), ("up", 4, 10), ("down", 10, 4)]:
            below_is_trained = layer > 0 or name not in "qkv"
            total += 2 * tokens * inner * outer * (1 + below_is_trained)
            # LoRA: two products forwards, their weights' two gradients, back to the middle, and back to the input.
            total += 2 * tokens * rank * (inner + outer) * 2 + 2 * tokens * rank * outer
            total += 2 * tokens * rank * inner * below_is_trained
        pairs = tokens * (tokens + 1) // 2  # of a query and a key it may see
        total += 2 * 2 * 4 * pairs * 3  # scores and weighted values, and for each product two back
    total += 2 * 2 * 50 * 4 * supervised
    assert bench_train.floor_operations(shape, RowSizes((tokens,), (supervised,)), rank) == total


def test_the_seconds_to_a_loss_are_read_off_the_curve(bench_train: ModuleType) -> None:
    curve = [(0.0, 3.0), (10.0, 2.0), (20.0, 2.5), (30.0, 1.0)]
    assert bench_train.seconds_to(3.0, curve) == 0
    assert bench_train.seconds_to(2.25, curve) == pytest.approx(7.5)
    assert bench_train.seconds_to(1.75, curve) == pytest.approx(25)


@pytest.mark.parametrize("seeds", [1, 5])
def test_differences_between_settings_are_told_from_noise(bench_distill: ModuleType, seeds: int) -> None:
    random = np.random.default_rng(0)
    classes = np.repeat([0, 1], [300, 100])
    noise = random.choice([-1.0, 0.0, 1.0], size=(seeds, 400), p=[0.1, 0.8, 0.1])
    drawn = bench_distill.draws(seeds, np.arange(400))

    def told(right: np.ndarray, loss: np.ndarray) -> dict[str, dict[str, object]]:
        found: dict[str, dict[str, object]] = bench_distill.differences(
            bench_distill.Scored(right, loss), classes, drawn
        )
        return found

    clear = told(noise + 0.2 * (classes == 1), noise + 0.2)
    assert clear["balanced accuracy"]["verdict"] == "better"
    assert clear["log loss"]["verdict"] == "worse"
    assert clear["accuracy"]["difference"] == pytest.approx(0.05 + noise.mean())
    low, high = clear["balanced accuracy"]["ci"]  # type: ignore[misc]
    assert low < clear["balanced accuracy"]["difference"] < high  # type: ignore[operator]
    by_chance = told(noise - noise.mean(), noise - noise.mean())
    assert {entry["verdict"] for entry in by_chance.values()} == {"no difference that these rows and seeds show"}


def test_seeds_that_differ_widen_the_interval(bench_distill: ModuleType) -> None:
    """Rows that all agree within a seed leave the seeds as the only doubt: the interval is the mean's of five."""
    by_seed = np.array([0.0, 0.1, 0.2, 0.3, 0.4])
    same = np.repeat(by_seed[:, None], 400, axis=1)
    drawn = bench_distill.draws(5, np.arange(400))
    found = bench_distill.differences(bench_distill.Scored(same, same), np.zeros(400, np.int64), drawn)
    low, high = found["accuracy"]["ci"]
    error = by_seed.std(ddof=1) / np.sqrt(5)
    assert (high - low) / (2 * 1.96) == pytest.approx(error, rel=0.15)


def test_both_trainers_run_and_are_measured(tmp_path: Path) -> None:
    """The short form, on made-up rows: three processes, two trainers, one judge."""
    jigsaw = tmp_path / "data" / "jigsaw"
    jigsaw.mkdir(parents=True)
    texts = [f"comment number {number} is {'mean' if number % 2 else 'kind'}" for number in range(24)]
    with (jigsaw / "train.5k.gpt4_log.jsonl").open("w") as file:
        for number, text in enumerate(texts):
            file.write(json.dumps({"id": str(number), "text": text, "gold": bool(number % 2)}) + "\n")
    with (jigsaw / "comments_20k.jsonl").open("w") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
    few = {"sizes": "7m", "rows": 12, "valid": 8, "batch-size": 3, "rounds": 2, "steps": 2, "warm": 1}
    options = {"data": tmp_path / "data", "cache": tmp_path / "cache", **few}
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, str(SCRIPTS / "bench_train.py"), *flags]
    result = subprocess.run(command, env={**os.environ}, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])["7m"]
    assert found["rows trained"] == {"mlxdistill": 6, "mlx_lm": 6}
    for name in ("mlxdistill", "mlx_lm"):
        curve = found[name]["validation loss over seconds"]
        assert len(curve) == 3
        assert all(np.isfinite(loss) and loss < 20 for _, loss in curve)
        assert curve[-1][1] != curve[0][1]
        assert 0 < found[name]["padding efficiency"] <= 1
