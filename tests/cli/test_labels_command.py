"""Looking inside a label store, also while another process is writing it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlxdistill.rundir.files import write_json, write_text
from mlxdistill.rundir.layout import RunDir
from mlxdistill.store import Decision, LabelStore
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row, write_rows

LABELS = ("ok", "to[x]ic")


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """Two teachers, one of them asked twice, and their combination, which is in force."""
    run = RunDir(tmp_path / "runs" / "mine")
    write_text(run.config, "")
    write_rows(run.pool, [Row("a", "first text"), Row("b", "second text"), Row("lonely", "third text")])
    with LabelStore(run.labels) as store:
        small = store.labeller("1", "p", LABELS, {"name": "small"})
        store.add(small, [Answer("a", "ok", (0.7, 0.3), seconds=0.5)], {"a": "1"})
        store.add(small, [Answer("b", "ok", (0.9, 0.1), copied_from="a")], {"b": "2"})
        store.keep_settings(small, {"n_batch": 512})
        big = store.labeller("2", "p", LABELS, {"name": "big"})
        told = [Answer("a", "to[x]ic", text="secret reason"), Answer("a", None, outcome="unparsable", sample=1)]
        store.add(big, told, {"a": "1"})
        combined = store.labeller("3", "p", LABELS, {"name": "combined", "made_of": [small, big]})
        store.add(combined, [Answer("a", "to[x]ic", (0.25, 0.75), agreement=0.5)], {"a": "1"})
        store.add_filtering([Decision("a", "length", False, "too short", 1.0)])
        store.add_filtering([Decision("a", "length", True, "within")])
    write_json(run.manifest, {"schema": 1, "frozen": {}, "stages": {"label": {"figures": {"labeller": combined}}}})
    return run


def test_show_prints_every_answer_and_decision(run: RunDir, call) -> None:
    shown = call("labels", "show", run.path, "a")
    assert shown.returncode == 0
    for part in ("small", "big", "combined", "to[x]ic 0.7500", "unparsable", "dropped", "2, in force", "too short"):
        assert part in shown.stdout
    record = json.loads(call("labels", "show", run.path, "a", "--json").stdout)
    assert [answer["in_force"] for answer in record["answers"]] == [False, False, False, True]
    assert [(answer["teacher"], answer["sample"], answer["label"]) for answer in record["answers"]] == [
        ("small", 0, "ok"),
        ("big", 0, "to[x]ic"),
        ("big", 1, None),
        ("combined", 0, "to[x]ic"),
    ]
    assert record["answers"][0]["seconds"] == 0.5
    assert [decision["kept"] for decision in record["decisions"]] == [False, True]
    assert json.loads(call("labels", "show", run.path, "b", "--json").stdout)["answers"][0]["copied_from"] == "a"


def test_show_keeps_texts_to_itself_unless_asked(run: RunDir, call) -> None:
    for more in ((), ("--json",)):
        without = call("labels", "show", run.path, "a", *more).stdout
        assert "first text" not in without
        assert "secret" not in without
        with_text = call("labels", "show", run.path, "a", "--text", *more).stdout
        assert "first text" in with_text
        assert "secret reason" in with_text


def test_a_row_without_answers(run: RunDir, call) -> None:
    shown = call("labels", "show", run.path, "lonely")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "no answer" in shown.stdout


def test_export_writes_the_labels_in_force(run: RunDir, call) -> None:
    exported = call("labels", "export", run.path)
    assert [json.loads(line) for line in exported.stdout.splitlines()] == [
        {
            "id": "a",
            "label": "to[x]ic",
            "probabilities": {"ok": 0.25, "to[x]ic": 0.75},
            "outcome": "answered",
            "agreement": 0.5,
            "teacher": "combined",
        }
    ]


def test_export_of_one_teacher_and_of_raw_answers(run: RunDir, call) -> None:
    lines = call("labels", "export", run.path, "--teacher", "small").stdout.splitlines()
    assert [json.loads(line)["probabilities"] for line in lines] == [
        {"ok": pytest.approx(0.7), "to[x]ic": pytest.approx(0.3)},
        {"ok": pytest.approx(0.9), "to[x]ic": pytest.approx(0.1)},
    ]
    lines = call("labels", "export", run.path, "--raw").stdout.splitlines()
    assert [(json.loads(line)["teacher"], json.loads(line)["sample"]) for line in lines] == [
        ("small", 0),
        ("small", 0),
        ("big", 0),
        ("big", 1),
    ]
    assert len(call("labels", "export", run.path, "--raw", "--teacher", "big").stdout.splitlines()) == 2


def test_export_of_a_teacher_that_was_asked_before_with_another_prompt(run: RunDir, call) -> None:
    """The labels in force say which of two teachers with one name is meant, not their age."""
    with LabelStore(run.labels) as store:
        again = store.labeller("2", "another prompt", LABELS, {"name": "big"})
        store.add(again, [Answer("new", "ok")], {"new": "1"})
    for more in ((), ("--teacher", "big")):
        lines = call("labels", "export", run.path, "--raw", *more).stdout.splitlines()
        assert "new" not in [json.loads(line)["id"] for line in lines]
    run.manifest.unlink()
    assert '"id": "new"' in call("labels", "export", run.path, "--raw", "--teacher", "big").stdout


def test_export_of_one_teachers_own_opinion(run: RunDir, call) -> None:
    with LabelStore(run.labels) as store:
        own = store.labeller("4", "p", LABELS, {"name": "big: one opinion a row", "made_of": [2]})
        store.add(own, [Answer("a", "to[x]ic", agreement=1.0)], {"a": "1"})
    figures = {"labeller": 3, "teachers": {"big": {"labeller": own}}}
    write_json(run.manifest, {"schema": 1, "frozen": {}, "stages": {"label": {"figures": figures}}})
    (line,) = call("labels", "export", run.path, "--teacher", "big").stdout.splitlines()
    assert json.loads(line)["agreement"] == 1.0
    write_json(run.manifest, {"schema": 1, "frozen": {}, "stages": {"label": {"figures": {"labeller": own}}}})
    assert call("labels", "export", run.path, "--teacher", "big").stdout.splitlines() == [line]


def test_stats_counts_everything(run: RunDir, call) -> None:
    small, big, combined = json.loads(call("labels", "stats", run.path, "--json").stdout)["labellers"]
    assert (small["teacher"], small["answers"], small["rows"], small["copied"]) == ("small", 2, 2, 1)
    assert small["classes"] == {"ok": 2, "to[x]ic": 0}
    assert small["mean_confidence"] == pytest.approx(0.8)
    assert (small["seconds"], small["settings"], small["in_force"]) == (0.5, {"n_batch": 512}, False)
    assert (big["answers"], big["rows"], big["outcomes"]) == (2, 1, {"answered": 1, "unparsable": 1})
    assert (big["mean_confidence"], big["mean_agreement"]) == (None, None)
    assert (combined["mean_agreement"], combined["in_force"]) == (0.5, True)
    table = call("labels", "stats", run.path)
    lines = [line.split() for line in table.stdout.splitlines()]
    assert ["teacher", "small", "#1", "big", "#2", "combined", "#3", "*"] in lines
    assert ["unparsable", "0", "1", "0"] in lines
    assert ["mean", "confidence", "0.8000", "–", "0.7500"] in lines
    assert ["n_batch", "512", "–", "–"] in lines
    assert ["label", "to[x]ic", "0", "1", "1"] in lines
    assert lines[-1] == ["*", "the", "labels", "in", "force"]


def test_content_free_texts_are_nobodys_rows(run: RunDir, call) -> None:
    name = "content-free texts of small"
    with LabelStore(run.labels) as store:
        free = store.labeller("5", "p", LABELS, {"name": name, "content_free_of": 1})
        store.add(free, [Answer("a", "ok", (0.5, 0.5)), Answer("(1)", "ok", (0.5, 0.5))], {"a": "n", "(1)": "n"})
    assert len(json.loads(call("labels", "stats", run.path, "--json").stdout)["labellers"]) == 3
    assert len(json.loads(call("labels", "show", run.path, "a", "--json").stdout)["answers"]) == 4
    assert "no row has this id" in (shown := call("labels", "show", run.path, "(1)")).stderr
    assert "did you mean" not in shown.stderr
    run.manifest.unlink()
    assert name not in call("labels", "export", run.path).stderr
    assert len(call("labels", "export", run.path, "--raw").stdout.splitlines()) == 4
    assert len(call("labels", "export", run.path, "--raw", "--teacher", name).stdout.splitlines()) == 2


def test_export_of_labels_in_force_leaves_out_samples_that_nobody_wants_any_more(run: RunDir, call) -> None:
    write_json(run.manifest, {"schema": 1, "frozen": {}, "stages": {"label": {"figures": {"labeller": 2}}}})
    (line,) = call("labels", "export", run.path).stdout.splitlines()
    assert json.loads(line)["label"] == "to[x]ic"


def test_what_is_not_there_is_said_with_what_is_near(run: RunDir, call) -> None:
    missing = call("labels", "stats", run.path.parent / "mime")
    assert missing.returncode == 1
    assert "not a run folder" in missing.stderr
    assert "did you mean runs/mine?" in missing.stderr
    assert "did you mean runs/mine?" in call("labels", "stats", "mine").stderr
    assert "did you mean lonely?" not in call("labels", "show", run.path, "lonly").stderr  # it has no answer
    with LabelStore(run.labels) as store:
        store.add(1, [Answer("row-17", "ok")], {"row-17": "1"})
    row = call("labels", "show", run.path, "row17")
    assert (row.returncode, row.stdout) == (1, "")
    assert row.stderr == "error: row row17: no row has this id\n  hint: did you mean row-17?\n"
    teacher = call("labels", "export", run.path, "--teacher", "smal")
    assert (teacher.returncode, teacher.stdout) == (2, "")
    assert "did you mean small?" in teacher.stderr
    assert "the teachers are: small, big" in call("labels", "export", run.path, "--teacher", "x").stderr


def test_a_run_that_is_not_labelled_yet(tmp_path: Path, call) -> None:
    write_text(tmp_path / "run" / "config.yaml", "")
    result = call("labels", "stats", "run")
    assert (result.returncode, result.stderr) == (
        1,
        "error: run: nothing is labelled yet\n  hint: mlxdistill label CONFIG\n",
    )


def test_before_labelling_has_finished(run: RunDir, call) -> None:
    run.manifest.unlink()
    result = call("labels", "export", run.path)
    assert result.returncode == 1
    assert "name one with --teacher: small, big" in result.stderr
    assert call("labels", "export", run.path, "--teacher", "big").returncode == 0


def test_a_damaged_store(run: RunDir, call) -> None:
    run.labels.write_bytes(b"not a database" * 100)
    result = call("labels", "stats", run.path)
    assert result.returncode == 1
    assert "damaged" in result.stderr


WRITER = """
import sys
from pathlib import Path
from mlxdistill.store import LabelStore
from mlxdistill.tasks.protocols import Answer
with LabelStore(Path(sys.argv[1])) as store:
    store.add(1, [Answer("more", "ok")], {"more": "1"})
    store._connection.execute("BEGIN IMMEDIATE")
    store._connection.execute("DELETE FROM answers")
    print("in the midst", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def writer(run: RunDir) -> Iterator[None]:
    """Another process, in the midst of a transaction."""
    arguments = [sys.executable, "-c", WRITER, str(run.labels)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in the midst\n"
        yield
        process.communicate("")


@pytest.mark.usefixtures("writer")
def test_while_another_process_writes_what_it_committed_is_seen(run: RunDir, call) -> None:
    small, *_ = json.loads(call("labels", "stats", run.path, "--json").stdout)["labellers"]
    assert small["answers"] == 3
    assert call("labels", "show", run.path, "more").returncode == 0
    assert len(call("labels", "export", run.path, "--teacher", "small").stdout.splitlines()) == 3


def test_a_reader_that_goes_away_ends_it_quietly(run: RunDir, mlxdistill) -> None:
    with LabelStore(run.labels) as store:
        rows = [f"{number:05}" for number in range(5000)]
        store.add(1, [Answer(row, "ok", (0.5, 0.5)) for row in rows], dict.fromkeys(rows, "1"))
    command = (
        f"{sys.executable} -m mlxdistill labels export {run.path} --teacher small | head -n 1; exit ${{PIPESTATUS[0]}}"
    )
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["id"] == "00000"


def test_a_folder_that_nobody_may_write(run: RunDir, unprivileged, common_folder: Path) -> None:
    copy = RunDir(common_folder / "run")
    copy.path.mkdir()
    copy.labels.write_bytes(run.labels.read_bytes())
    os.chmod(copy.labels, 0o444)
    os.chmod(copy.path, 0o555)
    result = unprivileged(
        "labels",
        "stats",
        copy.path,
        before="import mlxdistill.store, mlxdistill.cli.labels, mlxdistill.rundir.manifest\n",
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "small" in result.stdout
