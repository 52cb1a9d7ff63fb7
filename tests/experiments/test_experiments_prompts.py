"""Candidates answer as the label stage would, whatever their answers are made of."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from mlxdistill.config.load import LoadedConfig, load_config
from mlxdistill.demo import HERE
from mlxdistill.experiments.asking import Costs, ask_candidate, open_candidate
from mlxdistill.experiments.candidates import Axes, candidates
from mlxdistill.experiments.prompts import compare_prompts
from mlxdistill.pipeline import STAGES, Options, run_stages, task_of
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.manifest import Manifest
from mlxdistill.store import LabelStore
from mlxdistill.tasks.rows import content_hash, read_rows
from mlxdistill.teacher.label import answers_of

CONFIG = """\
task:
  instruction: Decide whether a message to the bank must be seen by a person today.
  labels: {report: a theft or misuse, other: everything else}
data:
  source: rows.jsonl
  fields: {text: text, gold: label, id: id}
  valid: 16
  test: {indist: 4, balanced: null}
teacher:
  - {name: scored, model: embedded:teacher, label_orders: 2, calibrate: content_free, n_ctx: 512, threads: 1}
  - {name: sampled, model: embedded:teacher, answer: generate, samples: 3, temperature: 0.8, n_ctx: 512, threads: 1,
     max_tokens: 16, format: text}
  - {name: logged, log: log.jsonl}
student: {model: embedded:student}
evaluate: {bootstrap: 200}
"""


class SilentReporter:
    """Implements `pipeline.Reporter`; keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def begin(self, stage: str) -> None: ...

    def skip(self, stage: str) -> None: ...

    def advance(self, done: int, total: int, **figures: float) -> None: ...

    def end(self, stage: str, summary: str) -> None:
        self.lines.append(summary)

    def note(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedConfig:
    lines = [json.loads(line) for line in (HERE / "messages.jsonl").read_text("utf-8").splitlines()]
    random.Random(1).shuffle(lines)
    rows = [line for label in ("report", "other") for line in [row for row in lines if row["label"] == label][:24]]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    logged = [
        {"messages": [{"role": "user", "content": row["text"]}], "response": "other" if place % 3 else "perhaps"}
        for place, row in enumerate(rows)
        if place % 4
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in logged), "utf-8")
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG, "utf-8")
    return load_config(path, environment={})


def test_the_configured_candidates_have_the_answers_of_the_label_stage(loaded: LoadedConfig, tmp_path: Path) -> None:
    run, reporter = RunDir(tmp_path / "run"), SilentReporter()
    run_stages(loaded, run, ("ingest", "label"), STAGES, reporter, Options())
    reporter.lines.clear()
    task, rows = task_of(loaded.config), read_rows(run.valid)
    figures = Manifest(run).figures("label")["teachers"]
    with LabelStore(run.labels) as store:
        for candidate in candidates(loaded.config, Axes())[0]:
            labeller = open_candidate(candidate, task, loaded.config.data.fields, reporter)
            asked = ask_candidate(candidate, labeller, rows, task, store, Costs(run.prompt_costs), reporter)
            number = figures[candidate.teacher]["labeller"]
            expected = answers_of(store, number, {row.id: content_hash(row.text) for row in rows})
            assert asked.answers.keys() == expected.keys()
            for row_id, answer in expected.items():
                found = asked.answers[row_id]
                assert (found.label, found.outcome) == (answer.label, answer.outcome)
                assert found.probabilities == (answer.probabilities and pytest.approx(answer.probabilities, abs=1e-6))
    assert not any("loading" in line for line in reporter.lines)  # every answer was there


def test_every_answer_asked_for_is_counted_in_what_a_row_takes(loaded: LoadedConfig, tmp_path: Path) -> None:
    run, reporter = RunDir(tmp_path / "run"), SilentReporter()
    outcome = compare_prompts(loaded, run, Axes(temperatures=(0.0,)), 8, reporter)
    entries = {entry["name"]: entry for entry in outcome["candidates"]}
    assert list(entries) == [
        "scored · default",
        "sampled · default · 0.8",
        "sampled · default · 0",
        "logged · recorded",
    ]
    assert "at temperature 0 all samples are the same: one is taken" in reporter.lines
    assert "sampled · default · 0.8: 24 answers" in reporter.lines
    assert "sampled · default · 0: 8 answers" in reporter.lines
    logged = entries["logged · recorded"]
    assert 0 < logged["unparsable"] < logged["answered"] < 8
    assert (logged["answer"], logged["tokens_per_row"], logged["rows_per_second"]) == (None, None, None)
    assert [each["teacher"] for each in outcome["recommendations"]] == ["scored", "sampled", "logged"]
    sampled, greedy = entries["sampled · default · 0.8"], entries["sampled · default · 0"]
    assert sampled["tokens_per_row"] > greedy["tokens_per_row"]
