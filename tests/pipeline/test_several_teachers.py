"""Several teachers, one after the other, and what is made of their answers."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tests_pipeline import CONFIG, run, write_task

from mlxdistill.config.load import load_config
from mlxdistill.evaluation.evaluate import recompute
from mlxdistill.pipeline import STAGES, Options, run_stages
from mlxdistill.rundir.layout import RunDir
from mlxdistill.store import LabelReader, LabelStore
from mlxdistill.tasks.rows import content_hash, read_rows
from mlxdistill.teacher.label import answers_of

ROWS = 140
TEACHERS = """\
teacher:
  - name: model
    model: embedded:teacher
    n_ctx: 512
    n_batch: 512
    n_seq: 32
    kv: unified
    threads: 1
    label_orders: 2
    calibrate: content_free
    scale_temperature: true
  - {name: desk, log: desk.jsonl}
combine: COMBINE
"""
SMALL = ("data.valid=10", "data.test.indist=8", "data.test.balanced=8")
SETTINGS = (
    "data.valid=44",
    "data.test.indist=12",
    "data.test.balanced=12",
    "train.epochs=1",
    "evaluate.baselines=[majority]",
)
TUNED = "n_batch: 512, n_seq: 32, kv: unified, threads: 1"  # nothing is tried


def write_log(folder: Path, rows: int, name: str, *, wrong: float, seed: int, skip: int = 0) -> None:
    """What a desk of people may have said about the demo's rows: gold, with mistakes."""
    noise = random.Random(seed)
    lines = [json.loads(line) for line in (folder / "rows.jsonl").read_text("utf-8").splitlines()]
    entries = []
    for row in lines[skip:rows]:
        answer = {"report": "other", "other": "report"}[row["label"]] if noise.random() < wrong else row["label"]
        messages = [{"role": "user", "content": row["text"]}]
        entries.append(json.dumps({"id": row["id"], "messages": messages, "response": answer}))
    (folder / name).write_text("\n".join(entries) + "\n", "utf-8")


def write_run(folder: Path, combine: str = "mean", teachers: str = TEACHERS, rows: int = ROWS) -> Path:
    config = CONFIG.replace("teacher: {model: embedded:teacher, n_ctx: 512}\n", teachers.replace("COMBINE", combine))
    path = write_task(folder, config, rows)
    write_log(folder, rows, "desk.jsonl", wrong=0.1, seed=1, skip=10)
    return path


def settings() -> list[str]:
    return [part for setting in SETTINGS for part in ("--set", setting)]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run with a model and a log as teachers."""
    folder = tmp_path_factory.mktemp("several")
    result = run("run", write_run(folder), "--run-dir", folder / "run", *settings(), cwd=folder)
    assert result.returncode == 0, result.stderr
    (folder / "stderr.txt").write_text(result.stderr, "utf-8")
    return folder / "run"


@pytest.fixture(scope="module")
def figures(ran: Path) -> dict:
    return json.loads((ran / "manifest.json").read_text("utf-8"))["stages"]["label"]["figures"]


def test_every_teacher_is_evaluated_beside_what_they_came_to_together(ran: Path) -> None:
    metrics = json.loads((ran / "evaluation/metrics.json").read_text("utf-8"))
    assert list(metrics["systems"])[:3] == ["teacher", "teacher:model", "teacher:desk"]
    assert recompute(RunDir(ran)) == metrics
    compared = {(entry["b"], entry["set"]) for entry in metrics["comparisons"]}
    for name in ("teacher", "teacher:model", "teacher:desk"):
        assert {(name, "test_indist"), (name, "test_balanced")} <= compared
    assert metrics["systems"]["teacher:model"]["rows_per_second"] > 0
    assert (
        metrics["systems"]["teacher"]["peak_memory_bytes"] == metrics["systems"]["teacher:model"]["peak_memory_bytes"]
    )
    assert metrics["systems"]["teacher:desk"]["peak_memory_bytes"] is None


def test_the_combination_is_the_mean_of_what_each_teacher_thinks(ran: Path, figures: dict) -> None:
    rows = read_rows(ran / "rows/test_balanced.jsonl")
    hashes = {row.id: content_hash(row.text) for row in rows}
    with LabelStore(ran / "labels.sqlite") as store:
        model, desk = (answers_of(store, figures["teachers"][name]["labeller"], hashes) for name in ("model", "desk"))
        both = answers_of(store, figures["labeller"], hashes)
    assert all(answer.probabilities is not None and answer.agreement in (0.5, 1.0) for answer in model.values())
    assert set(both) == set(model) == set(hashes)
    for row_id, answer in both.items():
        members = [model[row_id].probabilities]
        if row_id in desk:
            members.append(tuple(float(label == desk[row_id].label) for label in ("report", "other")))
        wanted = [sum(shares) / len(members) for shares in zip(*members, strict=True)]
        assert answer.probabilities == pytest.approx(wanted, abs=1e-6)
        assert sum(answer.probabilities) == pytest.approx(1)


def test_the_raw_answers_of_every_order_and_of_the_content_free_texts_are_kept(ran: Path) -> None:
    with LabelStore(ran / "labels.sqlite") as store:
        raw = list(store.answers(1))
    assert {answer.sample for answer in raw} == {0, 1}
    assert len({answer.row_id for answer in raw}) == ROWS
    with LabelReader(ran / "labels.sqlite") as reader:
        [free] = [labeller for labeller in reader.labellers() if labeller.is_content_free]
        answers = list(reader.answers(free))
        settings = next(labeller.settings for labeller in reader.labellers() if labeller.number == 1)
    assert (free.name, free.settings) == ("content-free texts of model", settings)
    ids = ("(content-free 1)", "(content-free 2)", "(content-free 3)")
    assert [(answer.row_id, answer.sample) for answer in answers] == [
        (row_id, order) for row_id in ids for order in (0, 1)
    ]


def test_the_manifest_says_what_each_teacher_is_worth_and_what_each_step_did(figures: dict, ran: Path) -> None:
    model, desk = figures["teachers"]["model"], figures["teachers"]["desk"]
    assert (model["answers"], desk["answers"], desk["missing"]) == (ROWS, ROWS - 10, 10)
    for entry in (model, desk):
        assert 0 < entry["agreement"]["value"] <= 1
        assert entry["agreement"]["ci"][0] <= entry["agreement"]["value"] <= entry["agreement"]["ci"][1]
        assert 34 <= entry["validation"]["n"] <= 44
        assert entry["validation"]["accuracy"]["method"] == "wilson"
    assert desk["agreement"]["n"] == ROWS - 10
    steps = [(entry["teacher"], entry["step"], entry["n"]) for entry in figures["effects"]]
    assert steps[:3] == [("model", "content_free", 44), ("model", "label_orders", 44), ("model", "temperature", 22)]
    assert steps[3][:2] == (None, "combination")
    assert figures["effects"][2]["temperature"] > 0
    assert all(entry["before"]["accuracy"] and entry["after"]["accuracy"] for entry in figures["effects"])
    record = json.loads((ran / "manifest.json").read_text("utf-8"))["stages"]["label"]
    assert (record["rows_in"], record["rows_out"]) == (ROWS, ROWS)
    assert set(record["settings"]) == {"model", "desk"}
    assert record["settings"]["model"]["threads"] == record["threads"]


def test_the_user_is_told_in_a_line_each(ran: Path) -> None:
    stderr = (ran.parent / "stderr.txt").read_text("utf-8")
    assert stderr.count(f"10 of {ROWS} rows have no logged answer") == 1
    assert stderr.count("model agrees with the combination on") == 1
    assert stderr.count("temperature, model: accuracy") == 1
    assert stderr.count("combination, against desk alone: accuracy") == 1
    assert stderr.count("combine: mean takes the labels of desk for certain") == 1


def test_the_page_shows_the_teachers_and_the_effects(ran: Path) -> None:
    page = (ran / "report.html").read_text("utf-8")
    for words in (
        "How far each teacher can be relied on",
        "Content-free correction",
        "Teacher desk",
        "mean probability",
    ):
        assert words in page, words


def test_nothing_is_done_again_and_another_rule_asks_no_teacher(ran: Path, tmp_path: Path) -> None:
    again = run("run", ran.parent / "config.yaml", "--run-dir", ran, *settings(), "--json", cwd=ran.parent)
    assert json.loads(again.stdout)["skipped"] == [stage.name for stage in STAGES], again.stderr
    folder = tmp_path / "again"
    shutil.copytree(ran.parent, folder)
    config = folder / "config.yaml"
    other = run("label", config, "--run-dir", folder / "run", *settings(), "--set", "combine=majority", cwd=folder)
    assert other.returncode == 0, other.stderr
    assert "loading" not in other.stderr
    assert "0 answers given" in other.stderr
    found = json.loads((folder / "run/manifest.json").read_text("utf-8"))["stages"]["label"]["figures"]
    before = json.loads((ran / "manifest.json").read_text("utf-8"))["stages"]["label"]["figures"]
    assert found["labeller"] != before["labeller"]
    assert found["teachers"]["model"]["labeller"] == before["teachers"]["model"]["labeller"]
    assert found["teachers"]["model"]["peak_memory_bytes"] == before["teachers"]["model"]["peak_memory_bytes"]


class Watcher:
    """A reporter that looks, whenever a model is about to be loaded, whether another one lives."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.alive_at_loading: list[int] = []

    def advance(self, done: int, total: int, **figures: float) -> None:
        return

    def note(self, message: str) -> None:
        self.notes.append(message)
        if message.startswith("loading "):
            children = psutil.Process().children(recursive=True)
            self.alive_at_loading.append(sum(not _is_tracker(child) for child in children))

    def begin(self, stage: str) -> None:
        return

    def end(self, stage: str, summary: str) -> None:
        self.notes.append(summary)

    def skip(self, stage: str) -> None:
        return


def _is_tracker(process: psutil.Process) -> bool:
    """Python's own helper of spawned processes, which holds no model."""
    return "resource_tracker" in " ".join(process.cmdline())


@pytest.fixture
def label(tmp_path: Path) -> Callable[..., tuple[Watcher, dict]]:
    """Ingests and labels in this process."""

    def call(path: Path, *overrides: str) -> tuple[Watcher, dict]:
        watcher, folder = Watcher(), RunDir(tmp_path / "run")
        loaded = load_config(path, [*SETTINGS, *overrides], {})
        run_stages(loaded, folder, ("ingest", "label"), STAGES, watcher, Options())
        content = json.loads(folder.manifest.read_text("utf-8"))["stages"]["label"]
        return watcher, content

    return call


def test_no_teacher_is_in_memory_when_the_next_one_is_loaded(tmp_path: Path, label) -> None:
    teachers = "".join(f"  - {{model: embedded:teacher, n_ctx: {n_ctx}, {TUNED}}}\n" for n_ctx in (512, 384))
    watcher, record = label(write_run(tmp_path, teachers=f"teacher:\n{teachers}", rows=60), *SMALL)
    assert watcher.alive_at_loading == [0, 0]
    first, second = record["figures"]["teachers"].values()
    assert record["figures"]["peak_memory_bytes"] == max(first["peak_memory_bytes"], second["peak_memory_bytes"])
    assert record["settings"]["teacher1"]["n_ctx"] == 512
    assert record["settings"]["teacher2"]["n_ctx"] == 384
    assert first["agreement"]["value"] > 0.95


def test_dawid_and_skene_tell_a_careless_log_from_careful_ones(tmp_path: Path, label) -> None:
    logs = {"careful": (0.05, 1), "also": (0.1, 2), "careless": (0.4, 3)}
    teachers = "teacher:\n" + "".join(f"  - {{name: {name}, log: {name}.jsonl}}\n" for name in logs)
    path = write_run(tmp_path, teachers=teachers + "combine: dawid_skene\n")
    for name, (wrong, seed) in logs.items():
        write_log(tmp_path, ROWS, f"{name}.jsonl", wrong=wrong, seed=seed)
    _, record = label(path)
    found = record["figures"]["teachers"]
    believed = {name: entry["dawid_skene"]["accuracy"] for name, entry in found.items()}
    assert believed["careful"] > believed["careless"] + 0.15
    assert believed["also"] > believed["careless"] + 0.15
    assert len(found["careless"]["dawid_skene"]["confusion"]) == 2
    assert set(found["careless"]["dawid_skene"]["recall"]) == {"report", "other"}
    [effect] = record["figures"]["effects"]
    assert effect["against"] in ("careful", "also")


def test_answers_that_nobody_wants_any_more_count_for_nothing(tmp_path: Path, label) -> None:
    model = f"model: embedded:teacher, n_ctx: 512, {TUNED}"
    logged = "teacher:\n  - {{name: model, {}}}\n  - {{name: desk, log: desk.jsonl}}\n"
    path = write_run(tmp_path, teachers=logged.format(f"{model}, label_orders: 2"), rows=60)
    label(path, *SMALL)
    write_run(tmp_path, teachers=logged.format(model), rows=60)
    _, record = label(path, *SMALL)
    number, figures = record["figures"]["teachers"]["model"]["labeller"], record["figures"]
    with LabelStore(tmp_path / "run/labels.sqlite") as store:
        first, stale = ({answer.row_id: answer for answer in store.answers(number, None, (each,))} for each in (0, 1))
        desk = {answer.row_id for answer in store.answers(figures["teachers"]["desk"]["labeller"])}
        alone = {answer.row_id: answer for answer in store.answers(figures["labeller"]) if answer.row_id not in desk}
    assert len(stale) == len(first) == 60
    assert alone
    assert any(first[row_id].probabilities != stale[row_id].probabilities for row_id in alone)
    for row_id, answer in alone.items():
        assert answer.probabilities == pytest.approx(first[row_id].probabilities, abs=1e-6)
    assert figures["teachers"]["model"]["rows_per_second"] == pytest.approx(
        60 / sum(answer.seconds for answer in first.values())
    )
    write_run(tmp_path, teachers=f"teacher: {{name: model, {model}, scale_temperature: true}}\n", rows=60)
    _, record = label(path, *SMALL)
    assert (record["figures"]["labeller"], record["rows_in"], record["rows_out"]) == (number, 60, 60)


def test_nothing_is_believed_of_a_teacher_about_a_class_of_which_it_named_no_row(tmp_path: Path, label) -> None:
    names = ("one", "two", "quiet")
    teachers = "teacher:\n" + "".join(f"  - {{name: {name}, log: {name}.jsonl}}\n" for name in names)
    path = write_run(tmp_path, teachers=teachers + "combine: dawid_skene\n")
    for name in names:
        write_log(tmp_path, ROWS, f"{name}.jsonl", wrong=0.0, seed=0)
    first, *others = map(json.loads, (tmp_path / "quiet.jsonl").read_text("utf-8").splitlines())
    lines = [first, *(line | {"response": "no idea"} for line in others)]
    (tmp_path / "quiet.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    _, record = label(path)
    found = {name: entry["dawid_skene"] for name, entry in record["figures"]["teachers"].items()}
    labels = ["report", "other"]
    seen = labels.index(first["response"])
    assert found["quiet"]["recall"][labels[1 - seen]] is None
    assert found["quiet"]["confusion"][1 - seen] == [None, None]
    for name, place in (("quiet", seen), ("one", 0), ("one", 1)):
        assert found[name]["recall"][labels[place]] == found[name]["confusion"][place][place] > 0.5


def test_a_temperature_without_enough_rows_is_left_out_and_said(tmp_path: Path, label) -> None:
    teachers = f"teacher: {{model: embedded:teacher, n_ctx: 512, {TUNED}, scale_temperature: true}}\n"
    watcher, record = label(write_run(tmp_path, teachers=teachers, rows=60), *SMALL)
    assert any("no temperature was fitted: 5 validation rows" in note for note in watcher.notes)
    assert record["figures"]["labeller"] == 1
    assert "effects" not in record["figures"]


def test_one_teacher_without_options_is_recorded_as_ever(tmp_path: Path, label) -> None:
    path = write_run(tmp_path, teachers="teacher: {log: desk.jsonl}\n")
    _, record = label(path)
    assert set(record["inputs"]) == {"rows", "teacher", "prompt", "labels"}
    assert isinstance(record["inputs"]["teacher"], str)
    assert "teachers" not in record["figures"]
    assert (record["threads"], record["settings"], record["rows_out"]) == (1, None, ROWS - 10)


def test_without_gold_teachers_are_combined_and_the_balanced_set_is_drawn_by_that(tmp_path: Path, label) -> None:
    teachers = "teacher: [{name: one, log: desk.jsonl}, {name: two, log: two.jsonl}]\ncombine: dawid_skene\n"
    path = write_run(tmp_path, teachers=teachers)
    write_log(tmp_path, ROWS, "two.jsonl", wrong=0.3, seed=2)
    path.write_text(path.read_text("utf-8").replace("gold: label, ", ""), "utf-8")
    watcher, record = label(path)
    figures = record["figures"]
    assert "effects" not in figures
    assert figures["teachers"]["one"]["validation"] == {"n": 0, "accuracy": None, "ece": None}
    assert figures["teachers"]["one"]["agreement"]["n"] == ROWS - 10
    assert any("no validation row has gold" in note for note in watcher.notes)
    assert any("of 2 teachers nothing tells which is right" in note for note in watcher.notes)
    drawn = read_rows(tmp_path / "run/rows/test_balanced.jsonl")
    with LabelStore(tmp_path / "run/labels.sqlite") as store:
        answers = answers_of(store, figures["labeller"], {row.id: content_hash(row.text) for row in drawn})
    labels = [answers[row.id].label for row in drawn]
    assert labels.count("report") == labels.count("other") == 6
