"""`mlxdistill review`: what it says to the careless, how it ends, and where its labels are seen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from review_runs import answer, make_run, reviewing, rows_of

from mlxdistill.rundir.layout import RunDir
from mlxdistill.store import LabelStore, Verdict
from mlxdistill.tasks.rows import Row, content_hash


def mlxdistill(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlxdistill", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


def small(folder: Path) -> RunDir:
    return make_run(folder, {"pool": rows_of(3)}, [answer(f"row-{number}", "ok", 0.6) for number in range(3)])


def decide(run: RunDir, row: Row, label: str | None, shown: str | None = "ok") -> None:
    with LabelStore(run.labels) as store:
        store.decide(Verdict(row.id, content_hash(row.text), "pool", label, shown, ("margin",)))


def test_mistakes_of_a_careless_user_are_one_line_each(tmp_path: Path) -> None:
    run = small(tmp_path / "run")
    empty = tmp_path / "empty"
    empty.mkdir()
    config = tmp_path / "config.yaml"
    config.write_text(run.config.read_text("utf-8"), "utf-8")
    (tmp_path / "rows.jsonl").write_text('{"text": "x"}\n')
    cases = {
        ("empty",): (1, "error: empty: not a run folder"),
        ("config.yaml",): (1, "error: runs/small: there is no run of this configuration"),
        ("nowhere.yaml",): (2, "nowhere.yaml"),
        ("run", "--set", "test_balanced"): (1, "this run has no test_balanced rows"),
        ("run", "--port", "99999"): (2, "--port"),
        ("run", "--n", "0"): (2, "--n"),
        ("run", "--why", "boredom"): (2, "boredom"),
    }
    for arguments, (code, message) in cases.items():
        result = mlxdistill("review", *arguments, cwd=tmp_path)
        assert (result.returncode, message in result.stderr) == (code, True), (arguments, result.stderr)
        assert "Traceback" not in result.stderr
        assert result.stdout == ""


def test_a_configuration_names_its_run(tmp_path: Path) -> None:
    run = small(tmp_path / "run")
    with reviewing(RunDir(run.config), "--run-dir", str(run.path)) as server:
        out, err = server.end()
    assert server.process.returncode == 0
    assert out == "\n0 of 3 rows decided (0 now): 0 accepted, 0 changed, 0 labelled, 0 unsure\n"
    assert "Traceback" not in err


def test_ctrl_c_ends_it_with_what_was_decided(tmp_path: Path) -> None:
    run = small(tmp_path / "run")
    with reviewing(run, "--json") as server:
        decide(run, rows_of(1)[0], "toxic")
        out, _ = server.end()
    assert server.process.returncode == 0
    summary = json.loads(out)
    assert [summary[name] for name in ("total", "decided", "now", "changed", "set")] == [3, 1, 1, 1, "pool"]
    assert summary["next"] == f"mlxdistill run {run.path}/config.yaml --run-dir {run.path}"


@pytest.fixture
def decided(tmp_path: Path) -> RunDir:
    run = small(tmp_path / "run")
    rows = rows_of(3)
    decide(run, rows[0], "toxic")
    decide(run, rows[0], "ok")
    decide(run, rows[1], None)
    decide(run, Row("row-2", "It read otherwise."), "toxic", None)
    return run


def test_labels_show_has_the_history(decided: RunDir, tmp_path: Path) -> None:
    shown = json.loads(mlxdistill("labels", "show", decided.path, "row-0", "--json", cwd=tmp_path).stdout)
    assert [(each["label"], each["in_force"]) for each in shown["people"]] == [("toxic", False), ("ok", True)]
    changed = json.loads(mlxdistill("labels", "show", decided.path, "row-2", "--json", cwd=tmp_path).stdout)
    assert [each["in_force"] for each in changed["people"]] == [False]
    assert "asked because" in mlxdistill("labels", "show", decided.path, "row-0", cwd=tmp_path).stdout


def test_labels_export_and_stats_have_what_stands(decided: RunDir, tmp_path: Path) -> None:
    exported = mlxdistill("labels", "export", decided.path, "--people", cwd=tmp_path)
    lines = [json.loads(line) for line in exported.stdout.splitlines()]
    assert [(line["id"], line["label"], line["decision"]) for line in lines] == [
        ("row-0", "ok", "label"),
        ("row-1", None, "unsure"),
        ("row-2", "toxic", "label"),
    ]
    stats = json.loads(mlxdistill("labels", "stats", decided.path, "--json", cwd=tmp_path).stdout)
    counts = {"accepted": 1, "changed": 0, "labelled": 1, "unsure": 1, "classes": {"ok": 1, "toxic": 1}}
    assert stats["people"] == {"pool": counts}
    refused = mlxdistill("labels", "export", decided.path, "--people", "--raw", cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
