"""The demo, from an installed wheel, outside the checkout, without a network: complete, honest, good enough to show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the project's wheel is unpacked, as pip would."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def demo(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """The run folder of the whole demo, and what `--json` printed; run in a namespace without any network."""
    folder = tmp_path_factory.mktemp("demo")
    namespace = ["unshare", "-rn"] if _can_unshare() else []
    command = [*namespace, sys.executable, "-P", "-m", "mlxdistill", "demo", "--json", "--run-dir", str(folder / "run")]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return folder / "run", json.loads(result.stdout)


def _can_unshare() -> bool:
    try:
        return subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def test_the_wheel_holds_models_and_rows(installed: Path) -> None:
    package = installed / "mlxdistill"
    for name in (
        "demo/models/teacher/demo-teacher-q8_0.gguf",
        "demo/models/student/model.safetensors",
        "demo/messages.jsonl",
    ):
        assert (package / name).is_file()
    size = sum(path.stat().st_size for path in (package / "demo/models").rglob("*") if path.is_file())
    assert size < 20_000_000


@pytest.mark.skipif(not _can_unshare(), reason="this system lets nobody make a network namespace")
def test_the_demo_passes_without_a_network(demo: tuple[Path, dict]) -> None:
    folder, summary = demo
    assert summary["done"] == ["ingest", "label", "filter", "train", "eval", "report"]
    assert (folder / "report.html").is_file()


def test_the_student_keeps_what_the_teacher_knows(demo: tuple[Path, dict]) -> None:
    metrics = demo[1]["metrics"]
    teacher = metrics["systems"]["teacher"]["sets"]["test_balanced"]["accuracy"]["value"]
    assert 0.85 <= teacher < 1
    retention = metrics["retention"]["test_balanced"]
    assert retention["value"] >= 0.9
    assert retention["ci"][1] >= 0.95
    against_base = next(
        entry for entry in metrics["comparisons"] if (entry["b"], entry["set"]) == ("student_base", "test_balanced")
    )
    assert against_base["verdict"] == "student is better"


def test_the_student_starts_near_chance(demo: tuple[Path, dict]) -> None:
    base = demo[1]["metrics"]["systems"]["student_base"]["sets"]["test_balanced"]["accuracy"]
    assert abs(base["value"] - 0.5) < 0.1


def test_naive_baselines_speed_and_memory_stand_beside(demo: tuple[Path, dict]) -> None:
    systems = demo[1]["metrics"]["systems"]
    assert {"teacher", "student", "student_base", "majority", "tfidf_logreg"} <= set(systems)
    for name in ("teacher", "student"):
        assert systems[name]["rows_per_second"] > 0
        assert systems[name]["peak_memory_bytes"] > 0


def test_intervals_are_bootstrapped_by_core(demo: tuple[Path, dict]) -> None:
    scores = demo[1]["metrics"]["systems"]["student"]["sets"]["test_balanced"]
    assert "cluster" in scores["accuracy"]["method"]


def test_no_core_is_on_two_sides(demo: tuple[Path, dict]) -> None:
    sides: dict[str, set[str]] = {}
    for name in ("pool", "valid", "test_indist", "test_balanced"):
        for line in (demo[0] / f"rows/{name}.jsonl").read_text("utf-8").splitlines():
            sides.setdefault(json.loads(line)["meta"]["group"], set()).add(name)
    assert {core: sets for core, sets in sides.items() if len(sets) > 1} == {}
    assert len(sides) >= 400


def test_the_balanced_set_has_fifty_cores_a_class(demo: tuple[Path, dict]) -> None:
    rows = [json.loads(line) for line in (demo[0] / "rows/test_balanced.jsonl").read_text("utf-8").splitlines()]
    for label in ("report", "other"):
        assert len({row["meta"]["group"] for row in rows if row["gold"] == label}) >= 50
