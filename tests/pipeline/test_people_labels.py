"""What people decided is used from the next run on, and nowhere else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlxdistill.pipeline.people_notes import people_notes
from mlxdistill.pipeline.training_labels import person_labels, with_people
from mlxdistill.rundir.layout import RunDir
from mlxdistill.store import LabelStore, Verdict
from mlxdistill.tasks.rows import Row, content_hash, read_rows

LABELS = ("report", "other")


def decide(run: RunDir, rows: list[Row], of_set: str, label: str | None, why: tuple[str, ...] = ("margin",)) -> None:
    with LabelStore(run.labels) as store:
        for row in rows:
            store.decide(Verdict(row.id, content_hash(row.text), of_set, label, None, why))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_the_next_run_learns_what_people_said(finished: Path, cli: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    run = RunDir(folder)

    def ran(stage: str) -> list[str]:
        result = cli(stage, run.config, "--run-dir", folder, "--set", "filter.min_confidence=0.999", "--json")
        assert result.returncode == 0, result.stderr
        return list(json.loads(result.stdout)["done"])

    taught = {line["id"]: line for line in lines(run.student_data / "train.jsonl")}
    changed, unsure, *_ = [row for row in read_rows(run.pool) if row.id in taught]
    label = next(name for name in LABELS if name != taught[changed.id]["label"])
    decide(run, [changed], "pool", label)
    decide(run, [unsure], "pool", None)
    assert ran("filter") == ["filter"]
    assert ran("train") == ["train"]
    now = {line["id"]: line for line in lines(run.student_data / "train.jsonl")}
    assert now[changed.id]["label"] == label
    assert now[changed.id]["probabilities"] == [float(name == label) for name in LABELS]
    assert now[changed.id]["messages"][-1]["content"] == label
    assert unsure.id not in now or now[unsure.id] == taught[unsure.id]

    decide(run, read_rows(run.test_indist)[:3], "test_indist", "other")  # gold of test rows teaches nobody
    assert ran("filter") == ran("train") == []
    decide(run, read_rows(run.pool)[-1:], "pool", "other")
    assert ran("filter") == ["filter"]


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with LabelStore(tmp_path / "labels.sqlite") as opened:
        yield opened


def test_a_label_counts_for_the_text_that_was_read(store: LabelStore) -> None:
    row = Row("a", "Read by a person.")
    store.decide(Verdict("a", content_hash(row.text), "pool", "report"))
    assert person_labels(store, [row, Row("b", "Not read.")], LABELS) == {"a": "report"}
    assert person_labels(store, [Row("a", "It reads otherwise now.")], LABELS) == {}
    assert person_labels(store, [row], ("other labels", "by now")) == {}


def test_gold_is_given_and_never_replaced(store: LabelStore) -> None:
    rows = [Row("none", "1"), Row("same", "2", "report"), Row("another", "3", "other"), Row("unsure", "4")]
    for row in rows:
        label = None if row.id == "unsure" else "report"
        store.decide(Verdict(row.id, content_hash(row.text), "test_indist", label))
    found = {row.id: (row.gold, dict(row.meta)) for row in with_people(store, rows, LABELS)}
    assert found == {
        "none": ("report", {"gold_by": "person"}),
        "same": ("report", {}),
        "another": ("other", {"disputed": "report"}),
        "unsure": (None, {}),
    }


def test_what_a_reader_of_the_scores_is_told(store: LabelStore) -> None:
    rows = [*(Row(str(number), f"Text {number}") for number in range(5)), Row("gold", "x", "other")]
    for row, why in zip(rows, (("no_gold",), ("mistake",), ("no_gold",)), strict=False):
        store.decide(Verdict(row.id, content_hash(row.text), "test_indist", "report", None, why))
    store.decide(Verdict("gold", content_hash("x"), "test_indist", "report"))
    notes = list(people_notes(store, {"test_indist": with_people(store, rows, LABELS), "test_balanced": []}))
    assert notes == [
        "test_indist: 4 of 6 rows have gold, 3 of them by people; the others are left out"
        " (mlxdistill review --set test_indist)",
        "test_indist: 1 of 3 labels by people are of rows chosen for being doubtful; until all rows have gold, scores"
        " on them do not stand for the whole set",
        "test_indist: people disagree with the gold of 1 of 6 rows; the gold counts",
    ]
