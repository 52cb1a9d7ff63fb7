"""What is missing is said before any work; what has done its work may be gone."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests_pipeline import CONFIG, write_task

from mlxdistill.demo import models_folder

Cli = Callable[..., subprocess.CompletedProcess[str]]


def test_everything_missing_is_listed_with_its_line_before_the_first_stage(tmp_path: Path, cli: Cli) -> None:
    paths = CONFIG.replace("rows.jsonl", "no-rows.jsonl").replace("embedded:teacher", "no-teacher.gguf")
    path = write_task(tmp_path, paths.replace("embedded:student", "./no-student"))
    result = cli("run", path, "--run-dir", "run")
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    for key, name in (("source:", "no-rows.jsonl"), ("teacher:", "no-teacher.gguf"), ("student:", "no-student")):
        number = next(n for n, line in enumerate(path.read_text("utf-8").splitlines(), 1) if key in line)
        assert any(f"config.yaml:{number}" in line and name in line for line in lines), result.stderr
    assert not (tmp_path / "run" / "rows").exists()


def test_a_student_without_a_chat_template_stops_the_run_before_the_teacher_works(tmp_path: Path, cli: Cli) -> None:
    student = tmp_path / "student"
    shutil.copytree(models_folder() / "student", student)
    settings = json.loads((student / "tokenizer_config.json").read_text("utf-8"))
    del settings["chat_template"]
    (student / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    result = cli("run", write_task(tmp_path, CONFIG.replace("embedded:student", "./student")), "--run-dir", "run")
    assert result.returncode == 1
    assert "no chat template" in result.stderr
    assert not (tmp_path / "run" / "labels.sqlite").exists()


def test_labels_outlive_the_teacher_and_rows_their_source(tmp_path: Path, cli: Cli) -> None:
    teacher = tmp_path / "teacher.gguf"
    shutil.copy(models_folder() / "teacher" / "demo-teacher-q8_0.gguf", teacher)
    path = write_task(tmp_path, CONFIG.replace("embedded:teacher", "./teacher.gguf"))
    for stage in ("ingest", "label"):
        assert cli(stage, path, "--run-dir", "run").returncode == 0
    teacher.unlink()
    (tmp_path / "rows.jsonl").unlink()
    result = cli("filter", path, "--run-dir", "run")
    assert result.returncode == 0, result.stderr
    assert "teacher.gguf" in result.stderr
    assert "rows.jsonl" in result.stderr
    other = cli("filter", path, "--run-dir", "run", "--set", "teacher.model=./another.gguf")
    assert other.returncode == 1
    assert "is used" not in other.stderr
