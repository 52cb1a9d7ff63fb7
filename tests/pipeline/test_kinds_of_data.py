"""The same way for rows without gold, logged answers, and given test files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests_pipeline import CONFIG, write_task


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_without_gold_only_agreement_is_said(tmp_path: Path, cli) -> None:
    config = write_task(tmp_path, CONFIG.replace(", gold: label", ""))
    result = cli("run", config, "--run-dir", tmp_path / "run", "--json", "--set", "train.epochs=1")
    assert result.returncode == 0, result.stderr
    metrics = json.loads(result.stdout)["metrics"]
    assert metrics["reference"] == "teacher"
    assert metrics["replacement"] is None
    assert "accuracy" not in metrics["systems"]["student"]["sets"]["test_indist"]
    assert metrics["systems"]["student"]["sets"]["test_indist"]["agreement"]["ci"]
    counts = metrics["sets"]["test_balanced"]["class_counts"]
    assert counts["report"] == counts["other"]
    frozen = (tmp_path / "run/rows/test_balanced.jsonl").read_bytes()
    again = cli("run", config, "--run-dir", tmp_path / "run", "--json", "--set", "train.epochs=1")
    assert json.loads(again.stdout)["done"] == []
    assert (tmp_path / "run/rows/test_balanced.jsonl").read_bytes() == frozen
    tested = {
        row["id"] for name in ("test_indist", "test_balanced") for row in lines(tmp_path / f"run/rows/{name}.jsonl")
    }
    assert not tested & {row["id"] for row in lines(tmp_path / "run/student/data/train.jsonl")}


LOGGED = """\
name: logged
task:
  instruction: Decide whether a message must be seen today.
  labels: {report: a theft or misuse, other: everything else}
data:
  source: log.jsonl
  fields: {gold: label, id: id}
  valid: 40
  test: {indist: 40, balanced: 30}
teacher: {log: log.jsonl, answer_key: urgent, answer_values: {1: report, 0: other}}
student: {model: embedded:student, lora: {rank: 4, scale: 2.0, layers: 2}, max_tokens: 256}
train: {epochs: 1, batch_size: 8}
evaluate: {bootstrap: 200, baselines: [majority]}
"""


def write_log(path: Path, rows: list[dict]) -> None:
    """A log with an answer to each row; that to every fourth names no label."""
    answers = ['```json\n{"urgent": %d}\n```', '{"urgent": %d}', "%d", "no idea %d"]
    with path.open("w", encoding="utf-8") as log:
        for number, row in enumerate(rows):
            answer = answers[number % 4] % (row["label"] == "report")
            record = {
                "id": row["id"],
                "label": row["label"],
                "request": {"messages": [{"role": "user", "content": row["text"]}]},
                "response": {"choices": [{"message": {"role": "assistant", "content": answer}}]},
            }
            log.write(json.dumps(record) + "\n")


def test_logged_answers_teach_without_a_model(tmp_path: Path, cli) -> None:
    config = write_task(tmp_path, LOGGED)
    rows = lines(tmp_path / "rows.jsonl")
    write_log(tmp_path / "log.jsonl", rows)
    result = cli("run", config, "--run-dir", tmp_path / "run", "--json")
    assert result.returncode == 0, result.stderr
    assert re.search(r"^train .*, peak memory \d[\d,]*\.\d [MG]B( \(.* planned\))?$", result.stderr, re.MULTILINE)
    metrics = json.loads(result.stdout)["metrics"]
    teacher = metrics["systems"]["teacher"]["sets"]["test_balanced"]
    unparsable = sum(row[-1] for row in teacher["confusion"])
    assert unparsable > 0
    assert teacher["accuracy"]["value"] == pytest.approx(1 - unparsable / 30)
    assert metrics["systems"]["teacher"]["rows_per_second"] is None
    kept = {row["id"] for row in lines(tmp_path / "run/student/data/train.jsonl")}
    assert not kept & {row["id"] for number, row in enumerate(rows) if number % 4 == 3}


def test_bad_lines_of_a_log_are_said_listed_and_refused_when_asked(tmp_path: Path, cli) -> None:
    config = write_task(
        tmp_path,
        LOGGED.replace("source: log.jsonl", "source: rows.jsonl").replace("gold: label", "text: text, gold: label"),
    )
    rows, log = lines(tmp_path / "rows.jsonl"), tmp_path / "log.jsonl"
    write_log(log, rows)
    with log.open("a", encoding="utf-8") as file:
        file.write('{"id": "cut", "messages": [\n')
        file.write('{"id": "x", "messages": [{"role": "user", "content": "private words"}]}\n')
    reasons = ["not JSON", "the answer is missing"]
    assert cli("ingest", config).returncode == 0
    strict = cli("label", config, "--strict")
    assert strict.returncode == 1
    assert f"{log}:241: not JSON" in strict.stderr
    assert "leave out --strict" in strict.stderr
    loose = cli("label", config)
    assert loose.returncode == 0, loose.stderr
    assert f"lines that cannot be used: 2 (rows/bad_log_lines.jsonl); the first: {log}:241 not JSON" in loose.stderr
    folder = tmp_path / "runs/logged"
    listed = lines(folder / "rows/bad_log_lines.jsonl")
    assert [(bad["file"], bad["line"]) for bad in listed] == [(str(log), 241), (str(log), 242)]
    assert all(bad["reason"].startswith(reason) for bad, reason in zip(listed, reasons, strict=True))
    record = json.loads((folder / "manifest.json").read_text("utf-8"))["stages"]["label"]
    assert record["figures"]["bad_lines"] == 2
    assert record["figures"]["first_bad_lines"][1] == f"{log}:242 the answer is missing"
    assert (record["rows_in"], record["rows_out"], record["threads"], record["settings"]) == (240, 180, 1, None)
    for name in ("manifest.json", "log.jsonl", "rows/bad_log_lines.jsonl"):
        assert "private words" not in (folder / name).read_text("utf-8")
    for command in ("label", "run"):
        again = cli(command, config, "--strict")
        assert again.returncode == 1
        assert f"{log}:241" in again.stderr


def test_given_test_files_are_taken_as_they_are_and_kept_out_of_training(tmp_path: Path, cli) -> None:
    config = write_task(tmp_path, CONFIG.replace("balanced: 30", "balanced: given.jsonl"))
    rows = lines(tmp_path / "rows.jsonl")
    given = [row for label in ("report", "other") for row in [r for r in rows if r["label"] == label][:10]]
    copies = [{**row, "id": f"copy-{row['id']}", "text": row["text"].upper()} for row in given]
    (tmp_path / "given.jsonl").write_text("".join(json.dumps(row) + "\n" for row in copies))
    assert cli("ingest", config, "--run-dir", tmp_path / "run").returncode == 0
    assert [row["id"] for row in lines(tmp_path / "run/rows/test_balanced.jsonl")] == [row["id"] for row in copies]
    others = {
        row["id"] for name in ("pool", "valid", "test_indist") for row in lines(tmp_path / f"run/rows/{name}.jsonl")
    }
    assert not others & {row["id"] for row in given}
