"""The learning curve: parts of the labels, paid for once, and what twice as many would bring."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests_pipeline import run, write_task

from mlxdistill.experiments.derived import Scored
from mlxdistill.experiments.learning_curve import Trained, _outcome
from mlxdistill.rundir.files import read_json
from mlxdistill.rundir.layout import RunDir
from mlxdistill.tasks.rows import read_rows

CALL = ("learning-curve", "config.yaml", "--run-dir", "run", "--shares", "40", "--seeds", "1", "--json")
FAST = ("--set", "train.epochs=1", "--set", "train.validations_per_epoch=1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curve")
    write_task(folder)
    result = run(*CALL, *FAST, cwd=folder)
    assert result.returncode == 0, result.stderr
    (folder / "stdout.json").write_text(result.stdout, "utf-8")
    return folder


def trained_ids(folder: Path, name: str) -> set[str]:
    lines = (folder / "run" / "children" / name / "student" / "data" / "train.jsonl").read_text("utf-8").splitlines()
    return {json.loads(line)["id"] for line in lines}


def test_larger_shares_hold_the_smaller_ones(folder: Path) -> None:
    parts = [trained_ids(folder, f"curve-{share}-12") for share in (40, 100)]
    pool = {row.id for row in read_rows(RunDir(folder / "run").pool)}
    assert [len(part) for part in parts] == [round(share * len(pool)) for share in (0.4, 1)]
    assert parts[0] < parts[1] == pool


def test_what_is_printed_is_kept(folder: Path) -> None:
    outcome = json.loads((folder / "stdout.json").read_text("utf-8"))
    assert outcome == read_json(RunDir(folder / "run").learning_curve)
    assert list(outcome["sets"]) == ["test_indist", "test_balanced"]
    for curve in outcome["sets"].values():
        assert [point["share"] for point in curve["points"]] == [40, 100]
        for point in curve["points"]:
            for system in ("student", "tfidf_logreg"):
                low, high = point[system]["ci"]
                assert 0 <= low <= point[system]["value"] <= high <= 1


def test_nothing_is_labelled_or_trained_twice(folder: Path) -> None:
    place = folder / "run"
    before = {path: path.read_bytes() for path in [*place.glob("children/*/manifest.json"), place / "labels.sqlite"]}
    again = run(*CALL, *FAST, cwd=folder)
    assert again.returncode == 0, again.stderr
    assert again.stdout == (folder / "stdout.json").read_text("utf-8")
    trained = {
        path: json.loads(content)["stages"]["train"] for path, content in before.items() if path.suffix == ".json"
    }
    assert {path: read_json(path)["stages"]["train"] for path in trained} == trained
    assert (place / "labels.sqlite").read_bytes() == before[place / "labels.sqlite"]


@pytest.mark.parametrize("shares", ["half", "0,50", "50,101", "", "10;20"])
def test_shares_that_cannot_be_are_refused(folder: Path, shares: str) -> None:
    refused = run("learning-curve", "config.yaml", "--run-dir", "run", "--shares", shares, cwd=folder)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: --shares")


def outcome_of(errors: dict[int, float], rows: int = 400, seeds: int = 3, majority: float = 0.5) -> dict:
    """Of made-up students, each wrong about its own share of the test rows."""
    rng = np.random.default_rng(5)
    hard = rng.random(rows)  # the same rows are hard for all students
    trained = []
    for share, error in errors.items():
        for seed in range(seeds):
            noise = rng.random(rows) < 0.03
            said = {f"r{place}": bool((hard[place] < error) ^ noise[place]) for place in range(rows)}
            wrong = {system: {"test_balanced": said} for system in ("student", "tfidf_logreg")}
            groups = {"test_balanced": dict.fromkeys(said)}
            trained.append(
                Trained(share, seed, Scored("x", share * 40, "accuracy", wrong, groups, {"test_balanced": majority}))
            )
    return _outcome(trained, 0.02, 500)


def test_a_flat_curve_says_stop_and_a_steep_one_go_on() -> None:
    flat = outcome_of(dict.fromkeys((5, 10, 25, 50, 75, 100), 0.1))
    assert flat["advice"] == {"set": "test_balanced", "decision": "stop"}
    assert "stop labelling" in flat["sentence"]
    steep = outcome_of({5: 0.5, 10: 0.42, 25: 0.32, 50: 0.25, 75: 0.22, 100: 0.2}, rows=2000)
    assert steep["advice"]["decision"] == "go on"
    assert "go on labelling" in steep["sentence"]
    assert steep["sets"]["test_balanced"]["doubled"]["gain"]["value"] == pytest.approx(0.045, abs=0.02)
    few = outcome_of({5: 0.5, 50: 0.25, 100: 0.2}, rows=60, seeds=1)
    assert few["advice"]["decision"] == "undecided"
    assert outcome_of({50: 0.2, 100: 0.1})["advice"]["decision"] == "unknown"


def test_a_student_that_has_not_begun_to_learn_says_nothing_about_more_labels() -> None:
    chance = outcome_of(dict.fromkeys((5, 25, 50, 100), 0.5))
    assert chance["advice"]["decision"] == "unknown"
    assert "it has not begun to learn" in chance["sentence"]
    rare = outcome_of(dict.fromkeys((5, 25, 50, 100), 0.1), majority=0.9)
    assert rare["advice"]["decision"] == "unknown"


def test_one_seed_never_says_stop() -> None:
    assert outcome_of(dict.fromkeys((5, 25, 50, 100), 0.1), seeds=1)["advice"]["decision"] == "undecided"
