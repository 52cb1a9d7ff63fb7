"""Every run ever made: listed, shown, compared on the rows that two of them share, and deleted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from mlxdistill.config.models import EvaluateConfig
from mlxdistill.evaluation.evaluate import evaluate, write_evaluation
from mlxdistill.evaluation.records import SystemAnswers
from mlxdistill.rundir.files import write_json, write_text
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.lock import locked
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row, write_rows

LABELS = ("ok", "toxic")
ROWS = [Row(f"r{number}", f"text {number}", LABELS[number % 2]) for number in range(200)]
STAGES = ("ingest", "label", "filter", "train", "eval", "report")
CONFIG = """\
task: {{instruction: Decide., labels: [{labels}]}}
data: {{source: /rows.jsonl}}
teacher: {{model: /big.gguf}}
student: {{model: /small}}
train: {{epochs: {epochs}}}
"""


def made(folder: Path, wrong: int = 0, epochs: int = 2, labels: tuple[str, ...] = LABELS, **unfinished: str) -> RunDir:
    """A run whose student is wrong about the first `wrong` rows, and its teacher about the first ten."""
    run = RunDir(folder)
    with locked(run):
        pass
    write_text(run.config, CONFIG.format(labels=", ".join(labels), epochs=epochs))
    write_rows(run.test_balanced, ROWS)
    sets = {"test_balanced": ROWS}
    systems = {"teacher": answers(10), "student": answers(wrong)}
    write_evaluation(run, evaluate(sets, systems, labels, EvaluateConfig(bootstrap=100)))
    stages: dict[str, Mapping[str, object]] = {
        name: {
            "started": f"2026-01-0{place}T10:00:00+00:00",
            "finished": None if name in unfinished else "2026-01-09T10:00:00+00:00",
            "seconds": 61.0,
            "rows_in": 300,
            "rows_out": 200,
            "figures": {"rows_train": 1234} if name == "train" else {},
        }
        for place, name in enumerate(STAGES, start=1)
    }
    write_json(run.manifest, {"schema": 1, "frozen": {}, "stages": stages})
    return run


def answers(wrong: int) -> SystemAnswers:
    by_row = {
        row.id: Answer(row.id, LABELS[(LABELS.index(row.gold or "") + (place < wrong)) % 2])
        for place, row in enumerate(ROWS)
    }
    return SystemAnswers({"test_balanced": by_row})


def test_list_tells_what_came_of_each_run_and_of_those_derived_from_it(tmp_path: Path, call: Callable) -> None:
    made(tmp_path / "runs" / "first", wrong=20)
    made(tmp_path / "runs" / "first" / "children" / "half", wrong=40)
    made(tmp_path / "runs" / "stopped", report="")
    (tmp_path / "runs" / "no-run").mkdir()
    listed = call("runs", "list")
    assert listed.returncode == 0
    lines = {line.split()[0]: line for line in listed.stdout.splitlines() if line.strip()}
    assert list(lines) == ["run", "first", "first/children/half", "stopped"]
    assert "90.0 (85.1–93.4)" in lines["first"]
    assert "2026-01-01 10:00" in lines["first"]
    assert "finished" in lines["first"]
    assert "1,234" in lines["first"]
    assert "80.0" in lines["first/children/half"]
    assert "eval, report unfinished" in lines["stopped"]


def test_a_damaged_run_stops_no_list(tmp_path: Path, call: Callable) -> None:
    made(tmp_path / "runs" / "good")
    cut = made(tmp_path / "runs" / "cut")
    cut.manifest.write_text('{"schema": 1,', "utf-8")
    old = made(tmp_path / "runs" / "old")
    write_json(old.manifest, {"schema": 0})
    found = {Path(run["path"]).name: run for run in json.loads(call("runs", "list", "--json").stdout)["runs"]}
    assert found["good"]["damage"] is None
    assert "not valid JSON" in found["cut"]["damage"]
    assert "schema" in found["old"]["damage"]
    assert call("runs", "list").stdout.count("unreadable") == 2


def test_show_prints_stages_scores_and_the_verdict(tmp_path: Path, call: Callable) -> None:
    run = made(tmp_path / "one", wrong=20)
    shown = call("runs", "show", run.path).stdout
    for part in ("/big.gguf", "/small", "1 min 01 s", "90.0", "95.0", "replace the teacher"):
        assert part in shown
    assert json.loads(call("runs", "show", run.path, "--json").stdout)["metrics"]["labels"] == list(LABELS)


def test_students_are_compared_row_by_row(tmp_path: Path, call: Callable) -> None:
    worse, better = made(tmp_path / "worse", wrong=40, epochs=1), made(tmp_path / "better", wrong=10, epochs=3)
    found = json.loads(call("runs", "compare", better.path, worse.path, "--json").stdout)
    assert found["settings"] == {"train.epochs": [3, 1]}
    (entry,) = found["comparisons"]
    assert (entry["n"], entry["a_only_right"], entry["b_only_right"]) == (200, 30, 0)
    assert entry["difference"] == pytest.approx(0.15)
    assert entry["p_holm"] == pytest.approx(entry["p_value"])
    assert entry["verdict"].endswith("is better")
    shown = call("runs", "compare", better.path, worse.path).stdout
    assert "train.epochs" in shown
    assert "+15.0 (+" in shown


def test_only_rows_that_read_the_same_in_both_runs_count(tmp_path: Path, call: Callable) -> None:
    one, other = made(tmp_path / "one"), made(tmp_path / "other", wrong=60)
    changed = [Row(row.id, "rewritten", row.gold) for row in ROWS[:50]]
    write_rows(other.test_balanced, [*changed, *ROWS[50:]])
    (entry,) = json.loads(call("runs", "compare", one.path, other.path, "--json").stdout)["comparisons"]
    assert (entry["n"], entry["a_only_right"]) == (150, 10)
    write_rows(other.test_balanced, [Row(row.id, "rewritten", row.gold) for row in ROWS])
    (entry,) = json.loads(call("runs", "compare", one.path, other.path, "--json").stdout)["comparisons"]
    assert entry["difference"] is None
    assert entry["reason"] == "the two runs have no test row in common"
    assert call("runs", "compare", one.path, other.path).returncode == 0


def test_what_cannot_be_compared_is_refused(tmp_path: Path, call: Callable) -> None:
    one, other = made(tmp_path / "one"), made(tmp_path / "other", labels=("ok", "toxic", "spam"))
    refused = call("runs", "compare", one.path, other.path)
    assert refused.returncode == 2
    assert "other labels" in refused.stderr
    lines = one.predictions.read_text("utf-8").splitlines(keepends=True)
    one.predictions.write_text("".join(lines[:-1]), "utf-8")
    edited = call("runs", "compare", one.path, one.path)
    assert edited.returncode == 1
    assert "predictions.jsonl gives" in edited.stderr
    other.metrics.unlink()
    assert "no evaluation yet" in call("runs", "compare", other.path, other.path).stderr
    assert "no run folder" in call("runs", "compare", tmp_path / "nowhere", one.path).stderr


def test_rm_asks_and_deletes_runs_alone(tmp_path: Path, call: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    run, kept = made(tmp_path / "gone"), made(tmp_path / "kept")
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    assert "nothing was deleted" in call("runs", "rm", run.path).stderr
    assert run.metrics.exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years", "utf-8")
    refused = call("runs", "rm", run.path, tmp_path / "mine", "--yes")
    assert refused.returncode == 1
    assert run.metrics.exists()
    (tmp_path / "link").symlink_to(kept.path)
    assert call("runs", "rm", tmp_path / "link", "--yes").returncode == 1
    assert call("runs", "rm", run.path, "--yes").stdout == f"deleted {run.path}\n"
    assert not run.path.exists()
    assert kept.metrics.exists()


def test_a_run_in_use_is_not_deleted(tmp_path: Path, call: Callable) -> None:
    run = made(tmp_path / "busy")
    with locked(run):
        refused = call("runs", "rm", run.path, "--yes")
    assert "is using this run folder" in refused.stderr
    assert run.metrics.exists()
