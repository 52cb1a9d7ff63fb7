"""Likely wrong labels are dropped or treated in training, in two rounds, and never in the store."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests_pipeline import write_task

from mlxdistill.rundir.files import file_sha256
from mlxdistill.store import LabelReader

Cli = Callable[..., subprocess.CompletedProcess[str]]


def lines(path: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in map(json.loads, path.read_text("utf-8").splitlines())}


def decisions(folder: Path, name: str) -> dict[str, Any]:
    """Those in force of one filter, by row id."""
    with LabelReader(folder / "labels.sqlite") as reader:
        ids = lines(folder / "rows/pool.jsonl")
        about = {row_id: reader.decisions_about(row_id) for row_id in ids}
        last = max(number for found in about.values() for number, _ in found)
        wanted = (last, name)
        return {
            row_id: item for row_id, found in about.items() for number, item in found if (number, item.filter) == wanted
        }


def exported(cli: Cli, folder: Path) -> str:
    result = cli("labels", "export", folder)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_flipped_weighed_and_a_second_round(finished: Path, tmp_path: Path, cli: Cli) -> None:
    folder, config = tmp_path / "run", write_task(tmp_path)
    shutil.copytree(finished, folder)
    before, answers = lines(folder / "student/data/train.jsonl"), exported(cli, folder)

    def stages(*settings: str) -> str:
        said = ""
        for stage in ("filter", "train"):
            flags = [part for setting in settings for part in ("--set", setting)]
            result = cli(stage, config, "--run-dir", folder, *flags)
            assert result.returncode == 0, result.stderr
            said += result.stdout + result.stderr
        return said

    said = stages(
        "filter.noise=0.1",
        "filter.noise_features=student",
        "filter.noise_action=flip",
        "train.epochs=2",
        "train.record_dynamics=true",
    )
    flipped = {row_id: item for row_id, item in decisions(folder, "noise").items() if item.is_treatment}
    taught = lines(folder / "student/data/train.jsonl")
    assert f"{len(flipped)} flipped by noise" in said
    assert 0 < len(flipped) <= 0.1 * len(taught) + 0.5
    assert taught.keys() == before.keys()
    assert {row_id for row_id in taught if taught[row_id]["label"] != before[row_id]["label"]} == set(flipped)
    assert all(taught[row_id]["label"] == item.label for row_id, item in flipped.items())
    assert exported(cli, folder) == answers
    shown = json.loads(cli("labels", "show", folder, next(iter(flipped)), "--json").stdout)
    assert any(item["label"] for item in shown["decisions"] if item["filter"] == "noise")

    recorded = folder / "student/dynamics.jsonl"
    digest = file_sha256(recorded)
    assert lines(recorded).keys() == taught.keys()
    second = ("filter.dynamics=0.1", "filter.noise_action=weigh", "train.epochs=2", "train.record_dynamics=true")
    stages(*second)
    weighed = {row_id: item.weight for row_id, item in decisions(folder, "dynamics").items() if item.is_treatment}
    taught = lines(folder / "student/data/train.jsonl")
    assert {row_id: row["weight"] for row_id, row in taught.items() if "weight" in row} == weighed
    assert all(taught[row_id]["label"] == before[row_id]["label"] for row_id in taught)
    assert file_sha256(recorded) == digest
    flags = [part for setting in second for part in ("--set", setting)]
    again = json.loads(cli("train", config, "--run-dir", folder, *flags, "--json").stdout)
    assert again["skipped"] == ["train"]


def test_settings_that_would_go_unheeded_are_refused(tmp_path: Path, cli: Cli) -> None:
    config = write_task(tmp_path)
    for settings, words in (
        (["filter.noise_action=flip"], "means nothing without `noise` or `dynamics`"),
        (["filter.noise_score=margin"], "means nothing without `noise`"),
        (["filter.dynamics=0.1", "filter.noise_action=flip"], "needs another opinion"),
        (["filter.noise=0.1", "filter.noise_action=soften", "train.soft_weight=0"], "`train.soft_weight` is 0"),
    ):
        flags = [part for setting in settings for part in ("--set", setting)]
        result = cli("config", "show", config, *flags)
        assert (result.returncode, words in result.stderr) == (2, True), result.stderr
