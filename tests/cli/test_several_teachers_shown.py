"""A list of teachers, as `config show`, `doctor` and `init` show it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

CONFIG = """\
task: {instruction: Find toxic comments, labels: [ok, toxic]}
data: {source: rows.jsonl}
teacher:
  - {model: embedded:teacher, name: small}
  - log: [calls.jsonl]
student: {model: embedded:student}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG, "utf-8")
    call = {"id": "1", "messages": [{"role": "user", "content": "hello"}], "response": "ok"}
    (tmp_path / "calls.jsonl").write_text(json.dumps(call) + "\n", "utf-8")
    return path


def test_config_show_names_every_teachers_values_and_their_lines(call, config: Path) -> None:
    shown = json.loads(call("config", "show", config, "--json", "--set", "teacher.1.answer_key=label").stdout)
    assert shown["teacher.0.name"] == {"value": "small", "origin": f"{config}:4"}
    assert shown["teacher.0.n_ctx"] == {"value": 4096, "origin": "default"}
    assert shown["teacher.1.log"] == {"value": [str(config.with_name("calls.jsonl"))], "origin": f"{config}:5"}
    assert shown["teacher.1.answer_key"] == {"value": "label", "origin": "--set teacher.1.answer_key"}
    assert shown["combine"] == {"value": "mean", "origin": "default"}
    lines = call("config", "show", config).stdout.splitlines()
    assert any(line.startswith("teacher.0.name ") for line in lines)


def test_doctor_looks_for_every_teacher(call, config: Path) -> None:
    result = call("doctor", config, "--json")
    found = {model["role"]: model["problem"] for model in json.loads(result.stdout)["models"]}
    assert found == {"teacher:small": None, "teacher:teacher2": None, "student": None}
    config.with_name("calls.jsonl").unlink()
    missing = call("doctor", config)
    assert missing.returncode == 1
    assert any(line.startswith("teacher:teacher2 ") and "no such file" in line for line in missing.stdout.splitlines())


def test_what_any_teacher_lacks_is_said_before_the_first_stage_with_its_line(call, config: Path) -> None:
    (config.parent / "rows.jsonl").write_text('{"text": "hello"}\n', "utf-8")
    config.with_name("calls.jsonl").unlink()
    result = call("run", config, "--set", "teacher.0.model=./gone.gguf", "--set", "teacher.0.prompt=gone.txt")
    assert result.returncode == 2
    for place, name in (
        ("--set teacher.0.model", "gone.gguf"),
        ("teacher.0.prompt", "gone.txt"),
        (f"{config}:5", "calls.jsonl"),
    ):
        assert any(place in line and name in line for line in result.stderr.splitlines()), result.stderr
