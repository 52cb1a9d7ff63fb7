"""A stage is skipped exactly when running it again could change nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mlxdistill.errors import DataError, MlxDistillError
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.lock import locked
from mlxdistill.rundir.manifest import Manifest, Work


def finished(run: RunDir, inputs: dict[str, object]) -> Path:
    output = run.path / "output.txt"
    manifest = Manifest(run)
    clock = manifest.start("train", inputs)
    output.write_text("result")
    work = Work(rows_in=5, rows_out=3, threads=4, seed=7, settings={"n_batch": 64})
    manifest.finish("train", clock, [output], work, {"loss": 0.5})
    return output


def test_unchanged_inputs_and_outputs_are_current(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    finished(run, {"rows": "abc", "sizes": (1, 2)})
    assert Manifest(run).is_current("train", {"rows": "abc", "sizes": (1, 2)})


def test_what_a_stage_did_is_kept_beside_its_own_figures(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    finished(run, {})
    record = Manifest(run).stages["train"]
    kept = {name: record[name] for name in ("rows_in", "rows_out", "threads", "seed", "settings")}
    assert kept == {"rows_in": 5, "rows_out": 3, "threads": 4, "seed": 7, "settings": {"n_batch": 64}}
    assert record["versions"]["numpy"]
    assert record["figures"] == {"loss": 0.5}


def test_figures_and_settings_of_the_last_run_stay_known_while_a_stage_runs_again(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    finished(run, {})
    Manifest(run).start("train", {"other": 1})
    again = Manifest(run)
    assert (again.figures("train"), again.settings("train")) == ({"loss": 0.5}, {"n_batch": 64})
    assert again.stages["train"]["rows_in"] is None


def test_changed_inputs_are_not_current(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    finished(run, {"rows": "abc", "seed": 0})
    assert not Manifest(run).is_current("train", {"rows": "abc", "seed": 1})


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("other")])
def test_a_missing_or_edited_output_is_not_current(tmp_path: Path, damage) -> None:
    run = RunDir(tmp_path)
    damage(finished(run, {}))
    assert not Manifest(run).is_current("train", {})


def test_an_edited_output_is_named_and_a_missing_one_is_not(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    output = finished(run, {})
    assert Manifest(run).altered_outputs("train") == []
    output.write_text("edited")
    assert Manifest(run).altered_outputs("train") == ["output.txt"]
    output.unlink()
    assert Manifest(run).altered_outputs("train") == []


def test_what_is_frozen_stays_known_while_a_stage_runs_again(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    manifest = Manifest(run)
    manifest.freeze("splits", "abc")
    manifest.start("ingest", {})
    assert Manifest(run).frozen == {"splits": "abc"}


def test_a_stage_that_did_not_finish_is_not_current(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    Manifest(run).start("train", {})
    assert not Manifest(run).is_current("train", {})


def test_a_manifest_of_another_schema_is_refused(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.manifest.write_text(json.dumps({"schema": 99, "frozen": {}, "stages": {}}))
    with pytest.raises(DataError, match="not of schema"):
        Manifest(run)


def test_a_second_process_is_refused_and_told_who_has_the_folder(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from mlxdistill.rundir.layout import RunDir;"
        "from mlxdistill.rundir.lock import locked\n"
        "with locked(RunDir(Path(sys.argv[1]))): print('mine', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "mine\n"
        with pytest.raises(MlxDistillError, match=f"process {other.pid}"), locked(RunDir(tmp_path)):
            pass
        other.kill()
    with locked(RunDir(tmp_path)):
        pass
