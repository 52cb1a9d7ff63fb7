"""Labelling less: a budget that stays in force, near duplicates, and an estimate that writes nothing."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mlxdistill.cli.stages import read_budget
from mlxdistill.config.load import load_config
from mlxdistill.errors import DataError, MlxDistillError, UsageError
from mlxdistill.pipeline import STAGES, Options, run_stages
from mlxdistill.pipeline.estimate import estimate_labelling
from mlxdistill.rundir.files import read_json, write_json
from mlxdistill.rundir.layout import RunDir
from mlxdistill.store import LabelStore
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import content_hash, iter_rows

CONFIG = """\
name: small
task:
  instruction: Is it urgent?
  labels: [urgent, other]
data:
  source: rows.jsonl
  fields: {text: text, gold: label, id: id}
  valid: 40
  test: {indist: 40, balanced: 20}
teacher:
  log: log.jsonl
student: {model: embedded:student}
"""
WORDS = {"urgent": ["stolen", "thief", "fraud", "police"], "other": ["address", "rate", "transfer", "hours", "app"]}


class Reporter:
    """Implements `pipeline.Reporter`; keeps what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def begin(self, stage: str) -> None: ...

    def end(self, stage: str, summary: str) -> None:
        self.lines.append(f"{stage}: {summary}")

    def skip(self, stage: str) -> None:
        self.lines.append(f"{stage}: skipped")

    def advance(self, done: int, total: int, **figures: float) -> None: ...

    def note(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task of 600 rows, a tenth of them urgent, all of them answered in a log."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    chance = random.Random(2)
    rows, log = [], []
    for number in range(600):
        label = "urgent" if number % 10 == 0 else "other"
        text = " ".join(chance.choices(WORDS[label], k=4) + chance.choices(["my", "the", "please"], k=4)) + f" {number}"
        rows.append({"id": f"r{number}", "text": text, "label": label})
        choices = [{"message": {"role": "assistant", "content": label}}]
        request = {"messages": [{"role": "user", "content": text}]}
        log.append({"id": f"r{number}", "request": request, "response": {"choices": choices}})
    for name, records in (("rows", rows), ("log", log)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    (tmp_path / "config.yaml").write_text(CONFIG, "utf-8")
    return tmp_path


def run(folder: Path, *stages: str, **options: Any) -> tuple[RunDir, list[str]]:
    reporter, place = Reporter(), RunDir(folder / "run")
    run_stages(load_config(folder / "config.yaml", ()), place, stages, STAGES, reporter, Options(**options))
    return place, reporter.lines


def chosen(place: RunDir) -> list[str]:
    content = read_json(place.budget)
    return (content["pilot"] + content["chosen"])[: content["budget"]]


def answered(place: RunDir) -> set[str]:
    with LabelStore(place.labels) as store:
        number = read_json(place.manifest)["stages"]["label"]["figures"]["labeller"]
        return {answer.row_id for answer in store.answers(number)}


def ids(*paths: Path) -> set[str]:
    return {row.id for path in paths for row in iter_rows(path)}


def test_a_budget_labels_its_rows_and_all_that_measure(folder: Path) -> None:
    place, lines = run(folder, "ingest", "label", "filter", budget=100)
    rows = chosen(place)
    assert len(rows) == len(set(rows)) == 100
    assert answered(place) == {*rows, *ids(place.valid, *place.test_sets.values())}
    assert any(line.startswith("budget: 100 of 500 rows of the pool (50 drawn by chance, 50 chosen)") for line in lines)
    assert "filter: 100 of 500 rows may teach (dropped: 400 by budget)" in lines
    figures = read_json(place.manifest)["stages"]
    assert figures["label"]["figures"]["budget"] == {"rows": 100, "drawn": 50, "chosen": 50}
    funnel = {step["filter"]: step for step in figures["filter"]["figures"]["funnel"]}
    assert funnel["budget"]["dropped"] == {"not labelled: outside the budget of 100 rows": 400}
    urgent = {row.id for row in iter_rows(place.pool) if row.gold == "urgent"}
    assert len(urgent & set(rows)) > 2 * 100 * len(urgent) / 500  # twice what chance would find


def test_the_budget_stays_in_force_until_another_is_given(folder: Path) -> None:
    place, _ = run(folder, "ingest", "label", "filter", budget=100)
    first = chosen(place)
    _, lines = run(folder, "ingest", "label", "filter")
    assert lines == ["ingest: skipped", "label: skipped", "filter: skipped"]
    _, lines = run(folder, "label", budget=100)
    assert lines == ["label: skipped"]
    _, lines = run(folder, "label", budget=150)
    assert chosen(place)[:100] == first
    assert len(chosen(place)) == 150
    assert any("50 rows labelled" in line for line in lines)
    run(folder, "label", budget=60)
    assert chosen(place) == first[:60]
    _, lines = run(folder, "filter")
    assert "filter: 60 of 500 rows may teach (dropped: 440 by budget)" in lines
    run(folder, "label", "filter", budget="all")
    assert answered(place) == ids(place.pool, place.valid, *place.test_sets.values())
    _, lines = run(folder, "label", "filter")
    assert lines == ["label: skipped", "filter: skipped"]


def test_a_stop_between_two_rounds_changes_no_choice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, _ = run(folder, "ingest", "label", budget=300)
    whole = chosen(place)
    for path in (place.budget, place.labels):
        path.unlink()
    with monkeypatch.context() as patch:
        rounds: list[int] = []
        add = LabelStore.add

        def stop_in_second_round(store: LabelStore, *wave: Any) -> None:
            rounds.append(1)
            if len(rounds) == 2:
                raise KeyboardInterrupt
            add(store, *wave)

        patch.setattr(LabelStore, "add", stop_in_second_round)
        with pytest.raises(KeyboardInterrupt):
            run(folder, "label", budget=300)
    run(folder, "label")
    assert chosen(place) == whole


def test_answers_that_nobody_wants_any_more_choose_no_rows(folder: Path) -> None:
    place, _ = run(folder, "ingest", "label", budget=100)
    wanted = chosen(place)
    with LabelStore(place.labels) as store:
        stale = [Answer(row.id, "other", sample=sample) for row in iter_rows(place.pool) for sample in (1, 2)]
        store.add(1, stale, {row.id: content_hash(row.text) for row in iter_rows(place.pool)})
    place.budget.unlink()
    manifest = read_json(place.manifest)
    del manifest["stages"]["label"]
    write_json(place.manifest, manifest)
    run(folder, "label", budget=100)
    assert chosen(place) == wanted


def test_a_budget_larger_than_the_pool_labels_all_of_it(folder: Path) -> None:
    place, _ = run(folder, "ingest", "label", budget=5000)
    assert set(chosen(place)) == ids(place.pool)


def test_new_rows_are_chosen_from_anew(folder: Path) -> None:
    place, _ = run(folder, "ingest", "label", budget=60)
    lines = (folder / "rows.jsonl").read_text("utf-8").splitlines(keepends=True)
    (folder / "rows.jsonl").write_text("".join(lines[:500]), "utf-8")
    run(folder, "ingest", "label", new_splits=True)
    assert len(chosen(place)) == 60
    assert set(chosen(place)) <= ids(place.pool)


def without_gold(folder: Path) -> None:
    text = CONFIG.replace(", gold: label", "")
    (folder / "config.yaml").write_text(text, "utf-8")


def test_without_gold_test_rows_are_drawn_from_those_that_chance_chose(folder: Path) -> None:
    without_gold(folder)
    place, _ = run(folder, "ingest", "label", budget=200)
    drawn = set(read_json(place.budget)["pilot"])
    assert ids(place.test_balanced) <= drawn


def test_an_estimate_of_a_log_counts_and_writes_nothing(folder: Path) -> None:
    config, reporter = load_config(folder / "config.yaml", ()), Reporter()
    place = RunDir(folder / "run")
    with pytest.raises(MlxDistillError, match="no rows to label yet"):
        estimate_labelling(config, place, Options(), reporter)
    run(folder, "ingest")
    before = snapshot(folder)
    for budget, rows in ((None, 600), (100, 200)):
        estimate = estimate_labelling(config, place, Options(budget=budget), reporter)
        assert estimate["teachers"]["teacher"] == {
            "log": [str(folder / "log.jsonl")],
            "rows": rows,
            "answers": {"asked": rows, "from_store": 0},
            "copied": 0,
            "found_in_log": rows,
        }
    assert snapshot(folder) == before


@pytest.mark.parametrize("text", ["0", "-5", "1.5", "many", ""])
def test_a_budget_that_is_no_number_of_rows_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a number of rows"):
        read_budget(text)
    assert [read_budget(each) for each in (None, "all", "120")] == [None, "all", 120]


def test_a_choice_that_was_edited_says_what_to_do(folder: Path) -> None:
    place, _ = run(folder, "ingest", "label", budget=60)
    place.budget.write_text('{"budget": "many"}', "utf-8")
    with pytest.raises(DataError, match="not a choice of rows"):
        run(folder, "label")


def snapshot(folder: Path) -> Sequence[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file())
