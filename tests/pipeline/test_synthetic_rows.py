"""Rows that a teacher wrote teach from the next run on, and are in no set that measures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests_pipeline import CONFIG, write_task

from mlxdistill.config.load import LoadedConfig, load_config
from mlxdistill.demo import HERE
from mlxdistill.experiments.synthesis import teachers
from mlxdistill.experiments.synthesis.checks import COPY
from mlxdistill.experiments.synthesis.journal import Journal
from mlxdistill.experiments.synthesis.synthesise import clear, synthesise
from mlxdistill.experiments.synthesis.teachers import OTHERWISE
from mlxdistill.pipeline import STAGES, Options, run_stages
from mlxdistill.pipeline.synthetic import tainted_rows
from mlxdistill.report.taught import taught_section
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.manifest import Manifest
from mlxdistill.store import LabelStore
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row, content_hash, read_rows, write_rows

TEACHER = "{model: embedded:teacher, n_ctx: 512, n_batch: 256, n_seq: 16, kv: unified, threads: 1}"
SETTINGS = (
    CONFIG.replace("{model: embedded:teacher, n_ctx: 512}", TEACHER)
    .replace("valid: 40", "valid: 10")
    .replace("indist: 40, balanced: 30", "indist: 10, balanced: 10")
)
WANTED = 5


class SilentReporter:
    """Implements `pipeline.Reporter`; keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def begin(self, stage: str) -> None: ...

    def skip(self, stage: str) -> None: ...

    def advance(self, done: int, total: int, **figures: float) -> None: ...

    def end(self, stage: str, summary: str) -> None:
        self.lines.append(f"{stage}: {summary}")

    def note(self, message: str) -> None:
        self.lines.append(message)


class Writer:
    """Stands in for a model that can write: a third of its drafts are reports that the task has not seen, the others
    are copies of test rows, and what no report is."""

    def __init__(self, run: RunDir, asked: list[Row]) -> None:
        lines = [json.loads(line) for line in (HERE / "messages.jsonl").read_text("utf-8").splitlines()]
        here = {
            row.id
            for name in ("pool", "valid", "test_indist", "test_balanced")
            for row in read_rows(getattr(run, name))
        }
        unseen = [line for line in lines if line["id"] not in here]
        self._reports = [line["text"] for line in unseen if line["label"] == "report"]
        self._others = [line["text"] for line in unseen if line["label"] == "other"]
        self._tests = [row.text for row in read_rows(run.test_indist)]
        self._asked = asked

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None: ...

    def label(self, rows: Sequence[Row], done: frozenset[Any], progress: Any) -> Iterator[list[Answer]]:
        self._asked += rows
        for row in rows:
            number = int(row.id.rpartition("/")[2])
            texts = (self._reports, self._others, self._tests)[number % 3]
            yield [Answer(row.id, "", text=json.dumps({"text": texts[number // 3 % len(texts)]}))]


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedConfig:
    return load_config(write_task(tmp_path, SETTINGS, 70), environment={})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Row]:
    """What the writer was shown."""
    found: list[Row] = []
    monkeypatch.setattr(teachers, "open_writer", lambda *_: Writer(RunDir(tmp_path / "run"), found))
    return found


def wanting(loaded: LoadedConfig, **classes: int) -> LoadedConfig:
    synth = loaded.config.synth.model_copy(update={"classes": classes, "min_confidence": 0.6})
    return replace(loaded, config=loaded.config.model_copy(update={"synth": synth}))


def stages(loaded: LoadedConfig, run: RunDir, *names: str, **train: Any) -> list[str]:
    config = loaded.config.model_copy(update={"train": loaded.config.train.model_copy(update=train)})
    reporter = SilentReporter()
    run_stages(replace(loaded, config=config), run, names, STAGES, reporter, Options())
    return reporter.lines


def test_accepted_rows_teach_and_measure_nothing(loaded: LoadedConfig, tmp_path: Path, asked: list[Row]) -> None:
    run, reporter = RunDir(tmp_path / "run"), SilentReporter()
    outcome = synthesise(wanting(loaded, report=WANTED), run, reporter)
    assert outcome["complete"]
    rows = read_rows(run.synthetic)
    assert len(rows) == WANTED
    measuring = [row for name in ("valid", "test_indist", "test_balanced") for row in read_rows(getattr(run, name))]
    pool = {row.id: row for row in read_rows(run.pool)}
    assert {row.id for row in rows}.isdisjoint({*pool, *(row.id for row in measuring)})
    assert {row.text for row in rows}.isdisjoint(row.text for row in measuring)
    assert all(set(row.meta["seeds"]) <= set(pool) for row in rows)
    assert not any(row.text in shown.text for row in measuring for shown in asked)
    reasons = Journal(run.drafts).outcomes("report")
    assert reasons[COPY]  # the test rows
    assert reasons[OTHERWISE]

    lines = stages(loaded, run, "ingest", "label", "filter", "train", epochs=1, class_balance="upsample")
    assert any(line.startswith("label: 0 rows labelled") for line in lines)
    manifest = Manifest(run)
    number = manifest.figures("label")["labeller"]
    with LabelStore(run.labels) as store:
        given = {
            answer.row_id: answer for answer in store.answers(number, {row.id: content_hash(row.text) for row in rows})
        }
    assert {answer.label for answer in given.values()} == {"report"}
    assert given.keys() == {row.id for row in rows}
    figures = manifest.figures("train")
    taught = [json.loads(line) for line in (run.student_data / "train.jsonl").read_text("utf-8").splitlines()]
    assert {row.id for row in rows} <= {line["id"] for line in taught}
    counts = figures["label_counts"]
    assert (figures["rows_synthetic"], counts["report"]["synthetic"], counts["other"]["synthetic"]) == (
        WANTED,
        WANTED,
        0,
    )
    assert figures["rows_train"] == len(taught) == len(pool) + WANTED == sum(each["rows"] for each in counts.values())
    assert {each["per_epoch"] for each in counts.values()} == {max(each["rows"] for each in counts.values())}
    section = taught_section({"stages": manifest.stages}, {"train": {"class_balance": "upsample"}})
    assert section is not None
    assert f"{WANTED} of them" in section.paragraphs[0]

    assert clear(run) == WANTED
    assert [path.exists() for path in (run.synthetic, run.drafts, run.synthesis)] == [False] * 3
    lines = stages(loaded, run, "ingest", "label", "filter")
    assert f"filter: {len(pool)} of {len(pool)} rows may teach" in lines


def test_the_same_seed_writes_the_same_rows_and_calls_add_up(
    loaded: LoadedConfig, tmp_path: Path, asked: list[Row]
) -> None:
    run = RunDir(tmp_path / "run")
    files = []
    for _ in range(2):
        synthesise(wanting(loaded, report=3), run, SilentReporter())
        files.append(run.synthetic.read_bytes())
        shown = [row.text for row in asked]
        asked.clear()
        clear(run)
    assert files[0] == files[1]
    assert shown
    synthesise(wanting(loaded, report=3), run, SilentReporter())
    synthesise(wanting(loaded, report=2), run, SilentReporter())
    rows = read_rows(run.synthetic)
    assert len(rows) == 5
    assert set(files[0].decode().splitlines()) <= set(run.synthetic.read_text("utf-8").splitlines())


def test_what_is_near_a_test_row_by_now_does_not_teach(loaded: LoadedConfig, tmp_path: Path, asked: list[Row]) -> None:
    """Test rows may have been drawn anew since a row was written."""
    run = RunDir(tmp_path / "run")
    synthesise(wanting(loaded, report=3), run, SilentReporter())
    rows = read_rows(run.synthetic)
    test, valid = read_rows(run.test_indist)[0], read_rows(run.valid)[0]
    from_test = replace(rows[0], meta={**rows[0].meta, "seeds": [test.id]})
    like_valid = replace(rows[1], id="synthetic-x", text=valid.text + " ")
    write_rows(run.synthetic, [from_test, like_valid, rows[2]])
    assert tainted_rows(run, None) == {from_test.id, like_valid.id}
    stages(loaded, run, "label", "filter")
    with LabelStore(run.labels) as store:
        dropped = {decision.row_id: decision.filter for decision in store.decisions() if not decision.kept}
    assert dropped == {from_test.id: "held_out", like_valid.id: "held_out"}


def test_a_budget_is_about_the_pool_alone(loaded: LoadedConfig, tmp_path: Path, asked: list[Row]) -> None:
    run = RunDir(tmp_path / "run")
    reporter = SilentReporter()
    run_stages(loaded, run, ("ingest", "label"), STAGES, reporter, Options(budget=30))
    outcome = synthesise(wanting(loaded, report=2), run, reporter)
    assert outcome["classes"]["report"]["synthetic"] == 2
    stages(loaded, run, "label", "filter")
    with LabelStore(run.labels) as store:
        kept = {decision.row_id for decision in store.decisions() if decision.filter == "budget" and decision.kept}
    assert len(kept) == 32
    assert {row.id for row in read_rows(run.synthetic)} <= kept
