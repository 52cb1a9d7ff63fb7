"""Personal data in a run: who sees it, what is counted, and what a student that never saw it is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests_pipeline import CONFIG, write_task

SECRETS = ("jane.roe", "20 7946", "DE89")


def write_personal(folder: Path, redact: str, rows: int = 240) -> Path:
    """The small task, each text with an address, a phone number and an account, all of them in groups by address."""
    config = CONFIG.replace("  valid: 40", f"  {redact}\n  group: customer\n  near_duplicates: null\n  valid: 40")
    path = write_task(folder, config, rows)
    lines = [json.loads(line) for line in (folder / "rows.jsonl").read_text("utf-8").splitlines()]
    for number, row in enumerate(lines):
        row["customer"] = f"jane.roe{number // 2}@corp.com"
        row["mail"] = f"jane.roe{number}@corp.com"
        row["text"] += f" Write to jane.roe{number}@corp.com or +44 20 7946 {number:04d}, DE89 3704 0044 0532 0130 00."
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines), "utf-8")
    return path


def files_with(folder: Path, words: tuple[str, ...]) -> set[str]:
    found = set()
    for path in folder.rglob("*"):
        if path.is_file() and any(word.encode() in path.read_bytes() for word in words):
            found.add(path.name)
    return found


def figures(run: Path) -> dict:
    return json.loads((run / "manifest.json").read_text("utf-8"))["stages"]["ingest"]["figures"]["personal_data"]


def test_before_no_file_of_the_run_has_the_original(tmp_path: Path, cli) -> None:
    config, run = write_personal(tmp_path, "redact: before"), tmp_path / "run"
    result = cli("ingest", config, "--run-dir", run)
    assert result.returncode == 0, result.stderr
    assert files_with(run, SECRETS) == set()
    counted = figures(run)  # of texts alone: every group is an address too
    assert counted["values"]["iban"] == counted["texts"] == 240
    assert 240 <= counted["values"]["email"] < 300
    assert "personal data in " in result.stderr
    assert "taken out" in result.stderr
    pool = [json.loads(line) for line in (run / "rows/pool.jsonl").read_text("utf-8").splitlines()]
    assert all("[EMAIL] or [PHONE], [IBAN]." in row["text"] for row in pool)
    assert len({row["meta"]["group"] for row in pool}) > 50


def test_a_bad_gold_cell_is_not_quoted_where_texts_are_redacted(tmp_path: Path, cli) -> None:
    config, run = write_personal(tmp_path, "redact: before"), tmp_path / "run"
    with (tmp_path / "rows.jsonl").open("a", encoding="utf-8") as file:
        gold = "Mail to jane.roe.of.the.long.name@example.com, please"
        file.write(json.dumps({"id": "bad", "text": "hello there", "label": gold, "customer": "c"}) + "\n")
    result = cli("ingest", config, "--run-dir", run)
    assert result.returncode == 0, result.stderr
    assert "jane.roe" not in result.stderr
    assert files_with(run, SECRETS) == set()
    assert "the gold value means no label" in (run / "rows" / "bad_lines.jsonl").read_text("utf-8")


def test_before_is_refused_where_something_was_made_of_the_texts_as_they_were(tmp_path: Path, cli) -> None:
    config, run = write_personal(tmp_path, "redact: report"), tmp_path / "run"
    assert cli("ingest", config, "--run-dir", run).returncode == 0
    again = ("ingest", config, "--run-dir", run, "--set", "data.redact=before", "--new-splits")
    (run / "rows" / "synthetic.jsonl").touch()
    refused = cli(*again)
    assert refused.returncode == 2
    assert "rows/synthetic.jsonl" in refused.stderr
    assert "hint: take another --run-dir" in refused.stderr
    (run / "rows" / "synthetic.jsonl").unlink()
    assert cli(*again).returncode == 0
    assert files_with(run, SECRETS) == set()


def test_ids_that_are_addresses_are_said(tmp_path: Path, cli) -> None:
    config = write_personal(tmp_path, "redact: before")
    settings = ("--set", "data.fields.id=mail", "--set", "data.group=null")
    result = cli("ingest", config, "--run-dir", tmp_path / "run", *settings)
    assert result.returncode == 0, result.stderr
    assert "240 ids are e-mail addresses" in " ".join(result.stderr.split())


def test_before_what_a_log_says_is_redacted_and_still_found(tmp_path: Path, cli) -> None:
    """Rows that are known by their text alone read the same as in the log, and no answer quotes what is gone."""
    config, run = write_personal(tmp_path, "redact: before\n  redact_as: stand_ins"), tmp_path / "run"
    with (tmp_path / "log.jsonl").open("w", encoding="utf-8") as log:
        for row in map(json.loads, (tmp_path / "rows.jsonl").read_text("utf-8").splitlines()):
            asked = [{"role": "user", "content": row["text"]}]
            answer = json.dumps({"why": f"{row['mail']} writes", "label": row["label"]})
            log.write(json.dumps({"messages": asked, "response": answer}) + "\n")
    text = config.read_text("utf-8").replace(
        "{model: embedded:teacher, n_ctx: 512}", "{log: log.jsonl, answer_key: label}"
    )
    config.write_text(text.replace(", id: id", ""), "utf-8")
    for stage in ("ingest", "label"):
        result = cli(stage, config, "--run-dir", run, "--set", "data.group=null")
        assert result.returncode == 0, result.stderr
    assert "240 rows labelled" in result.stderr + result.stdout
    assert files_with(run, SECRETS) == set()


def test_report_only_counts(tmp_path: Path, cli) -> None:
    config, run = write_personal(tmp_path, "redact: report"), tmp_path / "run"
    assert cli("ingest", config, "--run-dir", run).returncode == 0
    counted = figures(run)
    plain = cli("ingest", config, "--run-dir", tmp_path / "plain", "--set", "data.redact=null")
    assert plain.returncode == 0, plain.stderr
    for name in ("pool", "valid", "test_indist", "test_balanced"):
        assert (run / f"rows/{name}.jsonl").read_bytes() == (tmp_path / f"plain/rows/{name}.jsonl").read_bytes()
    assert counted["texts"] == 240
    assert 240 <= counted["values"]["email"] < 300
    assert files_with(run, SECRETS) == {"pool.jsonl", "valid.jsonl", "test_indist.jsonl", "test_balanced.jsonl"}


def test_rows_that_would_read_otherwise_need_new_splits(tmp_path: Path, cli) -> None:
    config, run = write_personal(tmp_path, "redact: after"), tmp_path / "run"
    assert cli("ingest", config, "--run-dir", run).returncode == 0
    assert cli("ingest", config, "--run-dir", run, "--set", "data.redact=report").returncode == 0
    refused = cli("ingest", config, "--run-dir", run, "--set", "data.redact=before")
    assert refused.returncode == 2
    assert "--new-splits" in refused.stderr


@pytest.mark.parametrize("key", ["teacher", "presidio"])
def test_what_is_missing_is_said_before_any_work(tmp_path: Path, cli, key: str) -> None:
    config = write_personal(tmp_path, f"redact: after\n  redact_with: [patterns, {key}]")
    if key == "teacher":
        log = '{"messages": [{"role": "user", "content": "x"}], "response": "report"}\n'
        (tmp_path / "log.jsonl").write_text(log, "utf-8")
        text = config.read_text("utf-8").replace("{model: embedded:teacher, n_ctx: 512}", "{log: log.jsonl}")
        config.write_text(text, "utf-8")
    else:
        config.write_text(config.read_text("utf-8").replace("  group:", "  redact_spacy: no_such\n  group:"), "utf-8")
    result = cli("ingest", config, "--run-dir", tmp_path / "run")
    assert result.returncode in (1, 2)
    assert "cannot be asked" in result.stderr or "presidio" in result.stderr or "no_such" in result.stderr
    assert not (tmp_path / "run/rows/pool.jsonl").exists()


def test_after_the_teacher_reads_what_the_student_never_does(tmp_path: Path, cli) -> None:
    config, run = write_personal(tmp_path, "redact: after", rows=120), tmp_path / "run"
    settings = (
        "train.epochs=1",
        "report.show_text=true",
        "data.valid=20",
        "data.test.indist=20",
        "data.test.balanced=16",
    )
    less = ("evaluate.baselines=[majority, tfidf_logreg]", "data.group=null")
    result = cli("run", config, "--run-dir", run, *(word for each in settings + less for word in ("--set", each)))
    assert result.returncode == 0, result.stderr
    with_originals = {"pool.jsonl", "valid.jsonl", "test_indist.jsonl", "test_balanced.jsonl"}
    assert files_with(run, SECRETS) == with_originals
    assert "[EMAIL]" in (run / "student/data/train.jsonl").read_text("utf-8")
    assert "[EMAIL]" in (run / "student/data/valid.jsonl").read_text("utf-8")
    row = {"id": "1", "text": "My card is gone, I am jane.roe@corp.com, DE89 3704 0044 0532 0130 00"}
    other = {"id": "1", "text": "My card is gone, I am [EMAIL], [IBAN]"}
    predicted = cli("predict", run, "-", stdin=f"{json.dumps(row)}\n{json.dumps(other)}\n")
    first, second = predicted.stdout.splitlines()
    assert "personal data was taken out of" in predicted.stderr
    assert json.loads(first) == json.loads(second)
    text = (run / "config.yaml").read_text("utf-8")
    (run / "config.yaml").write_text(text.replace("redact: after", "redact: null"), "utf-8")
    refused = cli("predict", run, "-", stdin=json.dumps(row) + "\n")
    assert refused.returncode == 1
    assert "changed since this student was trained" in refused.stderr
