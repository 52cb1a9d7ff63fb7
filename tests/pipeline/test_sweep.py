"""One change at a time, with the same seeds and rows as the base."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests_pipeline import run, write_task

from mlxdistill.errors import UsageError
from mlxdistill.experiments.derived import Scored
from mlxdistill.experiments.sweep import Factor, Setting, _outcome, read_factor
from mlxdistill.rundir.files import read_json
from mlxdistill.rundir.layout import RunDir

CALL = ("sweep", "config.yaml", "--run-dir", "run", "--vary", "train.learning_rate=1e-9,1e-3", "--seeds", "2", "--json")
FAST = ("--set", "train.epochs=1", "--set", "train.validations_per_epoch=1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    write_task(folder, rows=160)
    result = run(*CALL, *FAST, "--set", "data.valid=20", "--set", "data.test.indist=20", cwd=folder)
    assert result.returncode == 0, result.stderr
    (folder / "stdout.json").write_text(result.stdout, "utf-8")
    return folder


def test_each_other_value_is_trained_with_the_seeds_of_the_base(folder: Path) -> None:
    outcome = json.loads((folder / "stdout.json").read_text("utf-8"))
    assert outcome == read_json(RunDir(folder / "run").sweep)
    (setting,) = outcome["settings"]  # the other value is the base's own
    assert (setting["key"], setting["value"], setting["base_value"]) == ("train.learning_rate", 1e-9, 1e-3)
    folders = {each: RunDir(folder / "run" / each) for each in [*outcome["base"]["folders"], *setting["folders"]]}
    assert len(list((folder / "run" / "children").iterdir())) == len(folders) == 4
    seeds = [run.config.read_text("utf-8").split("seed: ")[-2].split()[0] for run in folders.values()]
    assert seeds == ["12", "13", "12", "13"]
    entry = setting["sets"]["test_balanced"]
    assert entry["difference"] == pytest.approx(entry["value"] - outcome["base"]["sets"]["test_balanced"]["value"])


def test_nothing_is_trained_twice(folder: Path) -> None:
    place = folder / "run"
    before = {path: path.read_bytes() for path in place.glob("children/*/manifest.json")}
    again = run(*CALL, *FAST, "--set", "data.valid=20", "--set", "data.test.indist=20", cwd=folder)
    assert again.stdout == (folder / "stdout.json").read_text("utf-8")
    assert all(read_json(path)["stages"] == json.loads(content)["stages"] for path, content in before.items())


@pytest.mark.parametrize(
    ("vary", "said"),
    [
        ("train.epochs", "is no KEY=VALUE"),
        ("train.epochs=", "is no KEY=VALUE"),
        ("train.epochs=1,,2", "is no KEY=VALUE"),
        ("data.seed=1,2", "data.seed cannot be varied"),
        ("teacher.n_ctx=512,256", "teacher.n_ctx cannot be varied"),
        ("train.seed=1,2", "train.seed is not varied here"),
        ("train.share=0.5", "train.share is not varied here"),
        ("train.epoch=1", "did you mean `epochs`"),
        ("train.epochs=none", "error: --vary train.epochs"),
        ("train.epochs=2", "every value is the one of the base"),
    ],
)
def test_what_cannot_be_varied_is_refused(tmp_path: Path, vary: str, said: str) -> None:
    write_task(tmp_path)
    refused = run("sweep", "config.yaml", "--vary", vary, cwd=tmp_path)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert not (tmp_path / "runs" / "small" / "labels.sqlite").exists()


def test_one_seed_is_no_noise_floor(tmp_path: Path) -> None:
    write_task(tmp_path)
    refused = run("sweep", "config.yaml", "--vary", "train.epochs=1", "--seeds", "1", cwd=tmp_path)
    assert (refused.returncode, "noise of training" in refused.stderr) == (2, True)


def test_commas_in_brackets_belong_to_a_value() -> None:
    factor = read_factor("student.lora.keys=[a,b],[c], null")
    assert factor == Factor("student.lora.keys", ("[a,b]", "[c]", "null"))
    with pytest.raises(UsageError):
        read_factor("=1")


def setting_of(key: str | None, wrong: list[set[int]], rows: int = 300) -> Setting:
    """Of made-up students, each wrong about the rows given."""
    return Setting(
        key,
        1,
        tuple(
            Scored(
                "x",
                10,
                "accuracy",
                {"student": {"test_balanced": {f"r{row}": row in mine for row in range(rows)}}},
                {"test_balanced": {f"r{row}": None for row in range(rows)}},
                {"test_balanced": 0.5},
            )
            for mine in wrong
        ),
    )


def test_a_change_larger_than_the_noise_is_told_from_one_that_is_not() -> None:
    base = setting_of(None, [set(range(60)), set(range(3, 62)), set(range(1, 60))])
    better = setting_of("train.epochs", [set(range(20)), set(range(3, 24)), set(range(1, 21))])
    noise = setting_of("train.clip", [set(range(50)), set(range(3, 70)), set(range(1, 60))])
    outcome = _outcome(base, [better, noise], {"train.epochs": 2, "train.clip": 1.0}, 3)
    found = {each["key"]: each["sets"]["test_balanced"] for each in outcome["settings"]}
    assert found["train.epochs"]["verdict"] == "better"
    assert found["train.clip"]["verdict"] == "within the noise"
    assert all(entry["p_holm"] >= entry["p_value"] for entry in found.values())
    assert outcome["base"]["sets"]["test_balanced"]["value"] == pytest.approx(1 - (60 + 59 + 59) / 900)
