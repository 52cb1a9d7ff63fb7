"""A careless user is told in one line what is wrong and where, in another what to do, and gets the right exit code."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from mlxdistill.demo import models_folder
from mlxdistill.platform.device import DeviceFacts

CONFIG = """\
name: careless
task:
  instruction: Is it toxic?
  labels: {ok: civil, toxic: rude}
data:
  source: rows.jsonl
  fields: {text: text, gold: gold}
  valid: 4
  test: {indist: 4, balanced: 4}
teacher: {model: embedded:teacher}
student: {model: embedded:student}
"""
ROWS = "".join(
    json.dumps({"text": f"text {hashlib.md5(b'%d' % number).hexdigest()}", "gold": ("ok", "toxic")[number % 2]}) + "\n"
    for number in range(60)
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG, "utf-8")
    (tmp_path / "rows.jsonl").write_text(ROWS, "utf-8")
    return path


def error_of(result, code: int = 1) -> str:
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith(("error:", "  hint:"))]
    assert lines
    assert lines[0].startswith("error: ")
    return "\n".join(lines)


def test_every_mistake_of_a_configuration_at_once(mlxdistill, config: Path) -> None:
    config.write_text(CONFIG.replace("name:", "nmae:") + "train: {epochs: none}\n", "utf-8")
    message = error_of(mlxdistill("run", config), 2)
    assert f"error: {config}:1: unknown key `nmae`\n  hint: did you mean `name`?" in message
    assert f"error: {config}:12: `train.epochs`" in message


def test_an_error_as_json(mlxdistill, config: Path) -> None:
    result = mlxdistill("run", config.with_name("nothing.yaml"), "--json")
    assert result.returncode == 2
    error = json.loads(result.stdout)["error"]
    assert error["message"] == "no such file"
    assert error["where"].endswith("nothing.yaml")
    assert error["hint"]


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda rows: rows.unlink(), "rows.jsonl"),
        (lambda rows: rows.write_text(""), "rows.jsonl"),
        (lambda rows: (rows.unlink(), rows.mkdir()), "rows.jsonl"),
        (lambda rows: rows.write_text(ROWS.replace('"text"', '"comment"')), "comment"),
        (lambda rows: rows.write_text(ROWS.replace('"toxic"', '"bad"')), "toxic"),
        (lambda rows: rows.write_text("not json\n" * 5), "rows.jsonl"),
    ],
    ids=["missing", "empty", "folder", "wrong column", "unknown label", "no json"],
)
def test_rows_that_cannot_be_used(mlxdistill, config: Path, spoil, expected: str) -> None:
    spoil(config.with_name("rows.jsonl"))
    assert expected in error_of(mlxdistill("ingest", config))


def test_bad_lines_are_counted_and_strict_stops_at_the_first(mlxdistill, config: Path) -> None:
    rows = config.with_name("rows.jsonl")
    rows.write_text(ROWS + "broken\n", "utf-8")
    strict = error_of(mlxdistill("ingest", config, "--strict"))
    assert f"{rows}:61" in strict
    loose = mlxdistill("ingest", config)
    assert loose.returncode == 0
    assert f"{rows}:61" in loose.stderr
    assert json.loads((config.parent / "runs/careless/rows/bad_lines.jsonl").read_text())["line"] == 61


def test_a_second_ingest_is_skipped_and_a_changed_one_names_new_splits(mlxdistill, config: Path) -> None:
    assert mlxdistill("ingest", config).returncode == 0
    before = (config.parent / "runs/careless/rows/test_balanced.jsonl").read_bytes()
    again = mlxdistill("ingest", config)
    assert "unchanged, skipped" in again.stderr
    changed = error_of(mlxdistill("ingest", config, "--set", "data.seed=1"), 2)
    assert "--new-splits" in changed
    assert (config.parent / "runs/careless/rows/test_balanced.jsonl").read_bytes() == before
    assert mlxdistill("ingest", config, "--set", "data.seed=1", "--new-splits").returncode == 0
    assert (config.parent / "runs/careless/rows/test_balanced.jsonl").read_bytes() != before


def test_a_stage_before_its_time_names_what_is_missing(mlxdistill, config: Path) -> None:
    assert "ingest comes first" in error_of(mlxdistill("label", config))


def test_a_folder_of_other_things_is_not_taken_for_a_run(mlxdistill, config: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("")
    assert "holds other files" in error_of(mlxdistill("run", config, "--run-dir", tmp_path / "photos"), 2)


@pytest.mark.parametrize("content", [b"", b"not a gguf", b"GGUF\x03\x00\x00\x00" + b"\xff" * 40])
def test_a_teacher_that_is_no_gguf(mlxdistill, config: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "teacher.gguf").write_bytes(content)
    assert mlxdistill("ingest", config).returncode == 0
    assert "teacher.gguf" in error_of(mlxdistill("label", config, "--set", f"teacher.model={tmp_path}/teacher.gguf"))


def test_a_model_that_was_not_pulled_names_the_command(mlxdistill, config: Path) -> None:
    assert mlxdistill("ingest", config).returncode == 0
    message = error_of(mlxdistill("label", config, "--set", "teacher.model=org/never-pulled"))
    assert "mlxdistill pull org/never-pulled" in message


def test_predict_wants_a_finished_run(mlxdistill, tmp_path: Path) -> None:
    assert "finished run" in error_of(mlxdistill("predict", tmp_path, "-"))


def test_init_writes_a_configuration_once(mlxdistill, tmp_path: Path) -> None:
    assert mlxdistill("init", "my-task", "--labels", "a,b").returncode == 0
    assert "already there" in error_of(mlxdistill("init", "my-task", "--labels", "a,b"), 2)
    assert "two different labels" in error_of(mlxdistill("init", "other", "--labels", "a"), 2)
    shown = mlxdistill("config", "show", "my-task.yaml")
    assert "my-task.yaml:" in shown.stdout
    assert "default" in shown.stdout


def test_doctor_says_what_is_missing(mlxdistill, config: Path) -> None:
    result = mlxdistill("doctor", config, "--json", "--set", "student.model=org/never-pulled")
    assert result.returncode == 1
    facts = json.loads(result.stdout)
    assert facts["device"]["gemm_gflops"] > 1
    assert facts["models"][0]["chat_template"] is True
    assert "mlxdistill pull org/never-pulled" in facts["models"][1]["problem"]


def test_an_unwritable_place_is_said(mlxdistill, config: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    assert "runs" in error_of(mlxdistill("ingest", config))


def test_usage_errors_exit_2(mlxdistill) -> None:
    assert mlxdistill("run").returncode == 2
    assert mlxdistill("nonsense").returncode == 2
    assert mlxdistill("train").returncode == 2


@pytest.fixture
def quick_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = DeviceFacts("system", "3", "chip", 1, 1, None, False, "OpenBLAS", 1.0, None, 1)
    monkeypatch.setattr("mlxdistill.platform.device.device_facts", lambda folder: facts)


@pytest.mark.usefixtures("quick_facts")
def test_doctor_looks_into_the_logs_of_a_recorded_teacher(call, config: Path) -> None:
    logged = {"messages": [{"role": "user", "content": "x"}], "response": "ok"}
    (config.parent / "there.jsonl").write_text(json.dumps(logged))
    (config.parent / "empty.jsonl").write_text("")
    (config.parent / "other.jsonl").write_text('{"text": "no answer"}')
    text = config.read_text("utf-8")
    logs = "log: [there.jsonl, gone.jsonl, empty.jsonl, other.jsonl]"
    config.write_text(text.replace("model: embedded:teacher", logs), "utf-8")
    result = call("doctor", config)
    assert result.returncode == 1
    folder = config.parent
    assert f"{folder}/there.jsonl: ready ({folder}/there.jsonl)\n" in result.stdout
    assert f"{folder}/gone.jsonl: no such file (" in result.stdout
    assert f"{folder}/empty.jsonl: the file is empty (" in result.stdout
    assert f"{folder}/other.jsonl:1: no logged answer can be used" in result.stdout


def half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def without_template(path: Path) -> None:
    settings = json.loads(path.read_text("utf-8"))
    del settings["chat_template"]
    path.write_text(json.dumps(settings), "utf-8")


@pytest.mark.parametrize(
    ("file", "spoil", "expected"),
    [
        ("tokenizer_config.json", without_template, "the model has no chat template ("),
        (
            "chat_template.jinja",
            lambda path: path.write_text("{% if %}"),
            "the model's chat template fails in its line",
        ),
        ("tokenizer.json", lambda path: path.write_text("{}"), "the model's tokenizer.json holds no vocabulary ("),
        ("model.safetensors", half, "the model's model.safetensors is cut short: "),
    ],
)
@pytest.mark.usefixtures("quick_facts")
def test_doctor_looks_into_the_student(call, config: Path, file: str, spoil, expected: str) -> None:
    student = config.parent / "student"
    shutil.copytree(models_folder() / "student", student)
    spoil(student / file)
    result = call("doctor", config, "--set", f"student.model={student}", "--json")
    assert result.returncode == 1
    facts = json.loads(result.stdout)["models"][1]
    assert (facts["path"], facts["chat_template"]) == (None, False)
    assert facts["problem"].startswith(expected)


def test_doctor_names_the_speed_of_metal_beside_that_of_the_processor(call, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = DeviceFacts("system", "3", "chip", 1, 1, 1, True, "Accelerate", 100.0, 2000.0, 1)
    monkeypatch.setattr("mlxdistill.platform.device.device_facts", lambda folder: facts)
    lines = call("doctor").stdout.splitlines()
    assert "metal     yes, 2000 GFLOP/s in float32" in lines
    assert "blas      Accelerate: 100 GFLOP/s in float32" in lines


def test_quiet_keeps_the_result(call, config: Path) -> None:
    result = call("ingest", config, "--quiet")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{config.parent / 'runs' / 'careless'}\n", "")


def test_config_show_names_defaults_as_such(call, config: Path) -> None:
    shown = json.loads(call("config", "show", config, "--json").stdout)
    assert shown["data.valid"]["origin"] == f"{config}:8"
    assert shown["data.seed"]["origin"] == "default"
