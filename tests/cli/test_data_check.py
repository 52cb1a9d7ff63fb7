"""`mlxdistill data check`: what a user is told about rows, and when it exits with 1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

CONFIG = """\
name: checked
task:
  instruction: Is it toxic?
  labels: {ok: civil, toxic: rude}
data:
  source: rows.jsonl
  fields: {text: text, gold: gold, id: id}
  valid: 8
  test: {indist: 8, balanced: 8}
teacher: {log: log.jsonl}
student: {model: embedded:student, max_tokens: 48}
"""
WORDS = ["able", "baker", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliet", "kilo", "lima"]
SENTENCE = "The parcel that I ordered in September has been opened and closed again by someone."


def text(number: int, words: int = 8) -> str:
    """Sentences that are no near duplicates of each other."""
    return " ".join(WORDS[(number * 7 + place * (number % 5 + 1)) % len(WORDS)] + str(number) for place in range(words))


def rows(count: int) -> list[dict[str, Any]]:
    return [{"id": f"r{n}", "text": text(n), "gold": ("ok", "toxic")[n % 2]} for n in range(count)]


def write(path: Path, records: list[Any]) -> Path:
    lines = (record if isinstance(record, str) else json.dumps(record) for record in records)
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return path


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    write(tmp_path / "rows.jsonl", rows(64))
    answers = [{"id": row["id"], "messages": [], "response": row["gold"]} for row in rows(64)]
    write(tmp_path / "log.jsonl", answers)
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path / "config.yaml"


def test_a_source_is_described_and_nothing_is_written(tmp_path, call):
    records = [
        *rows(20),
        {"id": "twin", "text": text(0).upper(), "gold": "toxic"},
        {"id": "near", "text": SENTENCE, "gold": "ok"},
        {"id": "near too", "text": SENTENCE + ".", "gold": "ok"},
        {"id": "mail", "text": "Please write to jane.doe@example.com about the contract.", "gold": "ok"},
        {"id": "hidden", "text": "an invoice\u202e with\u200b marks", "gold": None},
        "{",
        {"id": "r3", "text": "again", "gold": "ok"},
    ]
    write(tmp_path / "rows.jsonl", records)
    before = sorted(path.name for path in tmp_path.iterdir())
    ended = call("data", "check", "rows.jsonl", "--gold", "gold", "--id", "id", "--json")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    found = json.loads(ended.stdout)
    assert (found["ok"], found["kind"], found["errors"]) == (True, "source", [])
    source = found["files"]["source"]
    assert (source["rows"], source["usable"]) == (27, 25)
    assert source["bad_lines"]["count"] == 2
    assert [line["number"] for line in source["bad_lines"]["first"]] == [26, 27]
    assert source["bad_lines"]["first"][1]["reason"] == "the id 'r3' was already used in line 4"
    assert source["duplicates"] == {"exact": 1, "near": 1, "threshold": 0.8, "conflicting_gold": 1}
    assert source["gold"]["counts"] == {"ok": 13, "toxic": 11}
    assert source["gold"]["without"] == 1
    assert source["personal_data"]["email"] == {"rows": 1, "places": 1}
    assert source["hidden_characters"] == {
        "direction marks": {"rows": 1, "places": 1},
        "zero-width characters": {"rows": 1, "places": 1},
    }
    assert {column["name"]: column["types"] for column in source["columns"]} == {
        "id": {"string": 26},
        "text": {"string": 26},
        "gold": {"string": 25},
    }
    assert source["lengths"]["unit"] == "words"
    assert sum(bar["rows"] for bar in source["lengths"]["bars"]) == source["lengths"]["rows"] == 25
    assert "jane.doe" not in ended.stdout


def test_the_account_fits_80_columns(tmp_path, call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    labels = [f"a_rather_long_name_of_a_class_number_{n}" for n in range(30)]
    long = [
        {**row, "gold": labels[n % 30], "a column with a name that is far too long": n}
        for n, row in enumerate(rows(90))
    ]
    write(tmp_path / "rows.jsonl", [*long, *["{"] * 30])
    ended = call("data", "check", "rows.jsonl", "--gold", "gold", "--sample", "20")
    lines = ended.stdout.splitlines()
    assert max(len(line.rstrip()) for line in lines if not line.startswith(("!", "error", "ok", "  hint"))) <= 80
    assert "lines 91 to 110" in ended.stdout
    assert "and 10 more" in ended.stdout
    assert "and 18 more" in ended.stdout
    assert "drawn by chance" in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "records", "message", "hint"),
    [
        ([], [{"body": "a"}], "no column 'text'; it has: body", "set --text to one of them"),
        (["--text", "txt"], [{"text": "a"}], "no column 'txt'; it has: text", "did you mean 'text'? set --text"),
        (["--gold", "label"], [{"text": "a"}], "no column 'label'; it has: text", "set --gold to one of them"),
        ([], ["{", "["], "none of its 2 lines can be used; the first: not JSON", "mend the file"),
        ([], [""], "the file holds no rows", "check what should have written it"),
    ],
)
def test_a_source_that_no_run_could_use_exits_with_1_and_says_why(tmp_path, call, arguments, records, message, hint):
    write(tmp_path / "rows.jsonl", records)
    ended = call("data", "check", "rows.jsonl", *arguments)
    assert ended.returncode == 1
    assert message in ended.stdout
    assert f"  hint: {hint}" in ended.stdout


def test_a_configuration_is_checked_with_its_sets_and_tokens(configured, call):
    ended = call("data", "check", configured, "--json")
    found = json.loads(ended.stdout)
    assert (ended.returncode, found["errors"]) == (0, [])
    assert {name: size["n"] for name, size in found["splits"].items()} == {
        "pool": 40,
        "valid": 8,
        "test_indist": 8,
        "test_balanced": 8,
    }
    assert found["files"]["source"]["lengths"]["unit"].startswith("tokens of the student")
    assert found["truncated"]["student"]["most_tokens"] == 48
    assert found["truncated"]["student"]["rows"] == found["files"]["source"]["lengths"]["cut"] > 0
    assert found["overlap"]["test_indist"] == {"source": None, "pool": {"exact": 0, "near": 0}}
    assert not (configured.parent / "runs").exists()
    shown = call("data", "check", configured)
    assert shown.returncode == 0
    assert "ok: a run would start" in shown.stdout


def test_every_reason_why_a_run_would_fail_is_told_at_once(configured, call):
    folder = configured.parent
    source = [{**row, "gold": "tox"} if row["id"] == "r1" else row for row in rows(64) if row["id"] != "r0"]
    write(folder / "rows.jsonl", source)
    write(folder / "test.jsonl", [{"txt": "a"}])
    (folder / "log.jsonl").unlink()
    configured.write_text(CONFIG.replace("indist: 8", "indist: test.jsonl").replace("embedded:student", "nowhere"))
    ended = call("data", "check", configured)
    assert ended.returncode == 1
    assert "log.jsonl: no such file" in ended.stdout
    assert "nowhere" in ended.stdout
    assert "test.jsonl: no column 'text'; it has: txt" in ended.stdout
    assert "not ok: 3 things to mend" in ended.stdout
    assert "no label of the task" in ended.stdout
    assert json.loads(call("data", "check", configured, "--json").stdout)["files"]["source"]["gold"]["unknown"] == {
        "tox": 1
    }


def test_what_check_calls_bad_is_what_ingest_puts_aside(configured, call):
    folder = configured.parent
    records = [*rows(64), "{", {"id": "x"}, {"id": "y", "text": "a", "gold": "unheard"}, rows(1)[0]]
    write(folder / "rows.jsonl", records)
    found = json.loads(call("data", "check", configured, "--json").stdout)
    assert call("ingest", configured, "--quiet").returncode == 0
    ingested = (folder / "runs" / "checked" / "rows" / "bad_lines.jsonl").read_text().splitlines()
    told = [(line["number"], line["reason"]) for line in found["files"]["source"]["bad_lines"]["first"]]
    assert told == [(line["line"], line["reason"]) for line in map(json.loads, ingested)]
    sets = found["splits"]
    for name in sets:
        written = (folder / "runs" / "checked" / "rows" / f"{name}.jsonl").read_text().splitlines()
        assert len(written) == sets[name]["n"]


def test_rows_of_a_given_test_set_in_the_source_are_counted(configured, call):
    folder = configured.parent
    tests = rows(8)
    tests[1]["text"] += "."
    write(folder / "test.jsonl", tests)
    configured.write_text(CONFIG.replace("indist: 8", "indist: test.jsonl"))
    found = json.loads(call("data", "check", configured, "--json").stdout)
    assert found["overlap"]["test_indist"] == {"source": {"exact": 7, "near": 1}, "pool": {"exact": 0, "near": 0}}


def test_frozen_rows_that_would_change_are_told(configured, call):
    assert call("ingest", configured, "--quiet").returncode == 0
    assert call("data", "check", configured).returncode == 0
    write(configured.parent / "rows.jsonl", rows(70))
    ended = call("data", "check", configured)
    assert ended.returncode == 1
    assert "the test sets of this run are frozen" in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rows.jsonl", "--set", "data.seed=1"], "--set is an option of a configuration"),
        (["config.yaml", "--text", "text"], "--text is an option of a source"),
    ],
)
def test_options_of_the_other_kind_are_refused(configured, call, arguments, message):
    ended = call("data", "check", *arguments)
    assert ended.returncode == 2
    assert message in ended.stderr


def test_escape_sequences_in_names_never_reach_the_terminal(tmp_path, call):
    escape, title, turned = "\x1b[31mred", "\x9b2J", "\u202eturned"
    path = tmp_path / f"rows{escape}.jsonl"
    records = [
        {"text": text(n), escape: 1, title: 2, turned: 3, "\ud800": 4, "gold": f"{escape}{n % 2}"} for n in range(4)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in [*records, {escape: 1}]))
    for arguments in (
        ["--gold", "gold"],
        ["--gold", "gold", "--json"],
        ["--text", "nothing"],
        ["--text", title, "--json"],
    ):
        ended = call("data", "check", path, *arguments)
        both = ended.stdout + ended.stderr
        assert not {"\x1b", "\x9b", "\u202e", "\ud800"} & set(both)
        if "--json" in arguments:
            assert json.loads(ended.stdout)["checked"] == str(path)
    ended = call("data", "check", tmp_path / f"missing{escape}.jsonl")
    assert "\\u001b[31mred" in ended.stderr
    assert "\x1b" not in ended.stderr


def test_personal_data_is_no_longer_a_warning_where_it_is_taken_out(configured, call):
    records = [*rows(64), {"id": "mail", "text": "Write to jane.doe@example.com today", "gold": "ok"}]
    write(configured.parent / "rows.jsonl", records)

    def warnings() -> list[str]:
        found = json.loads(call("data", "check", configured, "--json").stdout)
        assert found["files"]["source"]["personal_data"]["email"]["rows"] == 1
        return [line for line in found["warnings"] if line.startswith("personal data")]

    assert len(warnings()) == 1
    configured.write_text(CONFIG.replace("  valid: 8", "  redact: after\n  valid: 8"))
    assert warnings() == []


def test_a_source_that_this_user_may_not_read_is_one_error(unprivileged, common_folder):
    (common_folder / "rows.jsonl").write_text('{"text": "a"}\n')
    (common_folder / "rows.jsonl").chmod(0)
    before = "import mlxdistill.cli.data, mlxdistill.cli.check_table, mlxdistill.pipeline.check\n"
    ended = unprivileged("data", "check", "rows.jsonl", before=before)
    assert ended.returncode == 1
    assert ended.stderr == (
        "error: rows.jsonl: cannot be read: permission denied\n  hint: check the path and its permissions\n"
    )
