"""Filtering as a whole: notes where a class is eaten, an error that names the filter to loosen, and the judge."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests_pipeline import CONFIG, run, write_task

from mlxdistill.config.filter import FilterConfig
from mlxdistill.config.load import load_config
from mlxdistill.errors import DataError
from mlxdistill.evaluation.scores import Resampling
from mlxdistill.filters.candidate import Candidate
from mlxdistill.filters.funnel import ClassCounts, FunnelStep
from mlxdistill.pipeline import judging
from mlxdistill.pipeline.answers import teacher_answers
from mlxdistill.pipeline.filter_notes import check_some_left, eaten, unheeded, unjudged
from mlxdistill.pipeline.judging import area
from mlxdistill.pipeline.stage import Context, Options, task_of
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.manifest import Manifest
from mlxdistill.store import Decision, LabelReader, LabelStore
from mlxdistill.tasks.protocols import Answer, Progress
from mlxdistill.tasks.rows import Row, read_rows
from mlxdistill.teacher.child import LabelStats
from mlxdistill.teacher.judging import GRADES, Proposal, grade


def test_a_filter_that_eats_a_class_is_named_by_its_key() -> None:
    steps = [
        FunnelStep("answered", 100, {}, {"ok": ClassCounts(10, 90)}),
        FunnelStep("min_confidence", 60, {}, {"ok": ClassCounts(50, 50), "toxic": ClassCounts(9, 11)}),
        FunnelStep("rule: short", 50, {}, {"ok": ClassCounts(50, 0), "toxic": ClassCounts(0, 9)}),
        FunnelStep("most_per_class", 5, {}, {"ok": ClassCounts(5, 45)}),
    ]
    assert list(eaten(steps)) == [
        "filter.min_confidence takes 11 of the 20 rows labelled toxic",
        "filter.rules (short) takes 9 of the 9 rows labelled toxic (none is left)",
    ]


def test_rows_that_a_filter_could_not_judge_are_counted() -> None:
    decisions = [
        Decision("a", "noise", True, "too few rows of its label to judge it by"),
        Decision("b", "noise", True, "not among the likely mislabelled", 0.9),
        Decision("c", "noise", False, "likely ok", 0.1),
        Decision("a", "dynamics", True, "learned like the others", 1.5),
        Decision("a", "answered", True, "answered"),
    ]
    (note,) = unjudged(decisions)
    assert note.startswith("filter.noise could not judge 1 of 3 rows")


def test_a_rule_about_answers_that_have_no_text_is_said() -> None:
    config = FilterConfig.model_validate({"rules": [{"name": "whole", "about": "answer", "required_fields": "a"}]})
    scored, written = Answer("a", "ok", (0.9, 0.1)), Answer("b", "ok", text="ok")
    assert list(unheeded(config, [scored, written])) == [
        "1 answers have no text: filter.rules (whole) does not touch them"
    ]
    assert list(unheeded(config, [written])) == []


def test_the_worst_eaten_classes_are_named_and_the_others_counted() -> None:
    classes = {f"c{number}": ClassCounts(number % 2, 5 + number) for number in range(8)}
    (note,) = eaten([FunnelStep("agreement", 4, {}, classes)])
    assert note.startswith("filter.agreement takes 11 of the 11 rows labelled c6 (none is left), 9 of the 9")
    assert note.endswith(", and more than half of 3 other classes")


def test_limits_that_touch_nothing_are_told() -> None:
    answers = [Answer("a", "ok"), Answer("b", "ok", (0.9, 0.1), agreement=1.0), Answer("c", None)]
    config = FilterConfig(min_confidence=0.8, min_margin=0.1, agreement=0.5)
    assert list(unheeded(config, answers)) == [
        "1 answers have no probabilities: filter.min_confidence and filter.min_margin do not touch them",
        "1 rows were answered once only: filter.agreement does not touch them",
    ]
    assert list(unheeded(FilterConfig(), answers)) == []


@pytest.mark.parametrize(
    ("taken", "message", "hint"),
    [
        (
            {"answered": 4, "rule: short": 6},
            "no row is left to learn from: filter.rules (short) took 6 of 10 (why)",
            "loosen filter.rules (short), or give more rows; `mlxdistill labels show RUN ROW` says why a row went",
        ),
        (
            {"answered": 10},
            "no row is left to learn from: labelling took 10 of 10 (why)",
            "label more rows",
        ),
    ],
)
def test_with_no_row_left_the_filter_that_took_most_is_named(taken: dict[str, int], message: str, hint: str) -> None:
    steps = [FunnelStep(name, 0, {"why": count}) for name, count in taken.items()]
    with pytest.raises(DataError) as caught:
        check_some_left(steps, 10, 0, "labels.sqlite")
    assert (caught.value.message, caught.value.hint) == (message, hint)
    check_some_left(steps, 10, 1, "labels.sqlite")


class Grader:
    """A labeller that grades by what it was shown, and can be stopped in the midst."""

    fingerprint = prompt_fingerprint = "grader"
    samples = (0,)
    settings = None

    def __init__(self, stop_after: int | None = None) -> None:
        self.shown: list[str] = []
        self._stop_after = stop_after

    def prepare(self, rows: int, settings: Mapping[str, Any] | None) -> None: ...

    def label(
        self, rows: Sequence[Row], done: frozenset[tuple[str, int]], progress: Progress
    ) -> Iterator[list[Answer]]:
        for row in rows:
            if (row.id, 0) in done:
                continue
            if len(self.shown) == self._stop_after:
                raise KeyboardInterrupt
            self.shown.append(row.text)
            sure = 0.9 if row.text.startswith(row.text.rsplit(" ", 1)[-1]) else 0.1
            yield [Answer(row.id, "5", (1 - sure, 0.0, 0.0, 0.0, sure))]


def test_nothing_is_graded_twice_and_a_stop_keeps_what_was_graded(tmp_path: Path, progress: Progress) -> None:
    task = task_of(load_config(write_task(tmp_path)).config)
    proposals = [Proposal(Row(f"row{n}", f"text {n} report"), place) for n in range(5) for place in (0, 1)]
    with LabelStore(tmp_path / "labels.sqlite") as store:
        number = store.labeller("grader", "grader", tuple(GRADES))
        first = Grader(stop_after=4)
        with pytest.raises(KeyboardInterrupt):
            grade(first, number, proposals, task, store, progress)
        second = Grader()
        grades = grade(second, number, proposals, task, store, progress)
        assert len(first.shown) + len(second.shown) == len(proposals)
        assert first.shown[:2] == ["report\n\nText:\ntext 0 report", "other\n\nText:\ntext 0 report"]
        assert {key: round(value, 3) for key, value in grades.items()} == {
            proposal.key: 4.6 if proposal.place == 0 else 1.4 for proposal in proposals
        }
        third = Grader()
        assert grade(third, number, proposals[:3], task, store, progress) == {
            proposal.key: grades[proposal.key] for proposal in proposals[:3]
        }
        assert third.shown == []
        changed = [Proposal(Row("row0", "other words report"), 0)]
        grade(third, number, changed, task, store, progress)
        assert third.shown == ["report\n\nText:\nother words report"]


def test_the_area_under_the_curve_is_told_with_its_doubt() -> None:
    rows = [Row(str(number), "") for number in range(40)]
    resampling = Resampling(200, 0)
    unsure = area(
        rows, [3 + number % 7 / 10 for number in range(40)], [3 + number % 5 / 10 for number in range(40)], resampling
    )
    assert 0.5 < unsure["value"] < 0.8
    assert unsure["ci"][0] < unsure["value"] < unsure["ci"][1]
    perfect = area(rows, [4.5] * 40, [1.5] * 40, resampling)
    assert perfect["value"] == 1
    assert perfect["ci"][0] == pytest.approx(0.912, abs=0.001)
    assert area(rows, [3.0] * 40, [3.0] * 40, resampling)["ci"] is None


FEW = CONFIG.replace("valid: 40", "valid: 30").replace("indist: 40, balanced: 30", "indist: 20, balanced: 10")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `config.yaml`, which wants a judge, and `run`, in which everything is labelled."""
    folder = tmp_path_factory.mktemp("labelled")
    config = write_task(folder, FEW + "filter: {judge: {drop: 0.1}, near_duplicates: 0.7}\n", rows=140)
    for stage in ("ingest", "label"):
        result = run(stage, config, "--run-dir", folder / "run", cwd=folder)
        assert result.returncode == 0, result.stderr
    return folder


def filtered(folder: Path, *settings: str) -> tuple[int, str]:
    """The exit code of `filter` with these settings, and what it said, in one line."""
    flags = [part for setting in settings for part in ("--set", setting)]
    result = run("filter", folder / "config.yaml", "--run-dir", folder / "run", *flags, cwd=folder)
    return result.returncode, " ".join(result.stderr.split())


def test_a_judge_that_cannot_be_told_from_chance_drops_nothing_unless_insisted_on(labelled: Path) -> None:
    code, told = filtered(labelled)
    assert code == 0, told
    assert "note: judge: tells a gold label from a wrong one with an AUROC of" in told
    assert "on 30 validation rows with gold" in told
    assert "judge: not used, and drops nothing: its AUROC of" in told
    assert _step(labelled, "judge")["dropped"] == {}
    asked = _judged(labelled)
    assert len(asked) == 2 * 30, "only validation rows were graded, each with its gold label and a wrong one"

    code, told = filtered(labelled, "filter.judge.insist=true")
    assert code == 0, told
    assert "judge: used all the same, as filter.judge.insist says" in told
    step = _step(labelled, "judge")
    dropped = sum(step["dropped"].values())
    assert list(step["dropped"]) == ["among the worst graded 10 % of its class"]
    assert 0 < dropped <= 0.1 * (step["kept"] + dropped)
    assert len(_judged(labelled)) == len(asked) + step["kept"] + dropped
    assert set(asked.items()) <= set(_judged(labelled).items()), "what was graded before is not asked again"

    said = run("labels", "show", labelled / "run", next(iter(step["examples"].values()))[0], "--json", cwd=labelled)
    decisions = json.loads(said.stdout)["decisions"]
    last = [each for each in decisions if each["filtering"] == decisions[-1]["filtering"]]
    assert [each["filter"] for each in last] == [
        *("held_out", "answered", "length", "exact_duplicates", "near_duplicates", "judge")
    ]
    assert 1 <= last[-1]["score"] <= 5


class GoldGrader(Grader):
    """Knows the gold label of every text."""

    stats = LabelStats()
    peak_memory_bytes = 0

    def __init__(self, gold: Mapping[str, str]) -> None:
        super().__init__()
        self._gold = gold

    def __exit__(self, *_: object) -> None: ...

    def label(
        self, rows: Sequence[Row], done: frozenset[tuple[str, int]], progress: Progress
    ) -> Iterator[list[Answer]]:
        for row in rows:
            if (row.id, 0) not in done:
                label, text = row.text.split("\n\nText:\n", 1)
                right = float(self._gold[text] == label)
                self.shown.append(text)
                yield [Answer(row.id, "5", (0.9 - 0.8 * right, 0.0, 0.0, 0.0, 0.1 + 0.8 * right))]


def test_a_judge_that_knows_better_takes_the_teachers_errors(
    labelled: Path, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunDir(labelled / "run")
    config = load_config(labelled / "config.yaml", ["filter.judge.least=3", "filter.judge.drop=0.05"], {}).config
    context = Context(config, task_of(config), folder, Options(), progress, Manifest(folder))  # type: ignore[arg-type]
    pool, valid = read_rows(folder.pool), read_rows(folder.valid)
    grader = GoldGrader({row.text: str(row.gold) for row in [*pool, *valid]})
    monkeypatch.setattr(judging, "open_judge", lambda *_: grader)
    with LabelStore(folder.labels) as store:
        answers = teacher_answers(context, store, [*pool, *valid])
        with judging.Judging(context, store) as panel:
            decisions = list(panel.judge()([Candidate(row, answers[row.id]) for row in pool]))
        assert panel.check is not None
    wrong = {row.id for row in pool if answers[row.id].label != row.gold}
    assert wrong, "the demo's teacher errs"
    assert {decision.row_id for decision in decisions if not decision.kept} == wrong
    errors = sum(answers[row.id].label != row.gold for row in valid)
    check = panel.check
    assert (check.unused, check.rows, check.named) == (None, len(valid), errors)
    assert check.auroc is not None
    assert check.auroc["ci"][0] > 0.8
    assert check.precision is None or check.precision["value"] == 1
    assert panel.notes == [f"judge: {check.sentence}"]
    assert len(grader.shown) == 2 * len(valid) + len(pool)


def test_the_wrong_label_that_a_judge_is_checked_with_is_the_hardest() -> None:
    names = ("a", "b", "c")
    row = Row("x", "text", "a")
    assert judging.wrong_place(row, Answer("x", "c", (0.3, 0.4, 0.3)), names, 0) == 2, "what the teacher said"
    assert judging.wrong_place(row, Answer("x", "a", (0.6, 0.1, 0.3)), names, 0) == 2, "what it nearly said"
    drawn = {judging.wrong_place(Row(str(n), "", "a"), Answer(str(n), "a"), names, 0) for n in range(20)}
    assert drawn == {1, 2}


def test_with_no_row_left_the_run_stops_before_it_trains(labelled: Path) -> None:
    code, told = filtered(labelled, "filter.min_confidence=1", "filter.judge=null")
    assert code == 1
    assert "none is left" in told
    assert "no row is left to learn from: filter.min_confidence took" in told
    assert "hint: loosen filter.min_confidence, or give more rows" in told


def _step(folder: Path, name: str) -> dict[str, Any]:
    stages = json.loads((folder / "run" / "manifest.json").read_text("utf-8"))["stages"]
    found: dict[str, Any] = next(step for step in stages["filter"]["figures"]["funnel"] if step["filter"] == name)
    return found


def _judged(folder: Path) -> dict[tuple[str, int], tuple[float, ...] | None]:
    """What the judge answered, by row and place of the label."""
    with LabelReader(folder / "run" / "labels.sqlite") as reader:
        judge = next(labeller for labeller in reader.labellers() if labeller.name == "teacher as a judge")
        return {(answer.row_id, answer.sample): answer.probabilities for answer in reader.answers(judge)}
