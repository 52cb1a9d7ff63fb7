from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mlxdistill.errors import MlxDistillError
from mlxdistill.report.data import FunnelStep, Mistake, ReportData, TrainPoint
from mlxdistill.report.page import render_report, write_report
from mlxdistill.report.settings import quantization
from mlxdistill.rundir.layout import RunDir

MOST_BYTES = 2_000_000
HOSTILE = (
    "</title></style><script>alert(1)</script><img src=x onerror=alert(1)>\"'{0}{{7*7}}{%x%}\u202e\u2066\x00\ud800\r"
)
VOID = {"meta", "link", "img", "br", "circle", "line", "rect", "polyline"}


class Page(HTMLParser):
    """The page's elements in order, with their attributes, their ancestors and the text in them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), tuple(self.open)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes, _ in self.elements if name == tag]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    @property
    def skeleton(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(tag, tuple(attributes)) for tag, attributes, _ in self.elements]


def swapped(value: Any, change: Callable[[str], str]) -> Any:
    """The same value with every string changed, also the keys of mappings."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {swapped(key, change): swapped(each, change) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(swapped(each, change) for each in value)
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(**{field.name: swapped(getattr(value, field.name), change) for field in fields(value)})
    return value


def test_the_verdict_comes_before_the_numbers(report: ReportData) -> None:
    words = Page(render_report(report)).words
    places = [words.index(text) for text in ("toxic-comments", "Undecided", report.verdict_sentence, "Accuracy on")]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("verdict", "sign"), [("yes", "✓ Yes"), ("no", "✕ No"), ("undecided", "≈ Undecided"), (None, "– No verdict")]
)
def test_the_badge_tells_the_verdict_without_colour(report: ReportData, verdict: str | None, sign: str) -> None:
    metrics = {**report.metrics, "replacement": {**report.metrics["replacement"], "verdict": verdict}}
    assert sign in Page(render_report(replace(report, metrics=metrics))).words


def test_sections_stand_in_the_order_of_questions(report: ReportData) -> None:
    html = render_report(report)
    names = re.findall(r'<h2 id="([a-z]+)-title"', html)
    assert names == [
        *("verdict", "scores", "comparisons", "retention", "confusion"),
        *("calibration", "training", "funnel", "mistakes", "origin"),
    ]


def test_scores_carry_intervals_and_gaps_carry_reasons(report: ReportData) -> None:
    page = Page(render_report(report))
    accuracy = report.metrics["systems"]["student"]["sets"]["test_balanced"]["accuracy"]
    low, high = accuracy["ci"]
    assert f"{accuracy['value']:.1%}".replace("%", " %") in page.words
    assert f"({low * 100:.1f}–{high * 100:.1f})" in page.words
    assert "needs class probabilities" in page.words
    assert "the teacher is not above chance" in page.words
    assert "student and teacher have no scored row in common" in page.words
    assert page.words.count("naive baseline") == 2 * 2
    targets = {attributes["id"] for _, attributes, _ in page.elements if "id" in attributes}
    assert {link["href"] for link in page.named("a")} <= {f"#{target}" for target in targets}


def test_comparisons_give_p_values_and_plain_verdicts(report: ReportData) -> None:
    words = Page(render_report(report)).words
    assert "Student against teacher No significant difference test_balanced accuracy −1.2 (−3.0 to +0.6) 0.310" in words
    assert "Student against TF-IDF + logistic regression Student is better" in words
    assert "< 0.001 McNemar" in words


def test_each_test_that_was_used_is_explained(report: ReportData) -> None:
    grouped = {**report.metrics["comparisons"][0], "test": "sign flip by group"}
    words = Page(render_report(report)).words
    assert "McNemar’s test asks how often chance alone" in words
    assert "sign flip" not in words
    words = Page(render_report(with_metrics(report, comparisons=[grouped]))).words
    assert "The sign flip by group asks how often" in words
    assert "McNemar’s test would take each row for independent evidence" in words
    assert "McNemar’s test asks" not in words
    assert "0.310 sign flip by group" in words


def with_metrics(report: ReportData, **changed: Any) -> ReportData:
    return replace(report, metrics={**report.metrics, **changed})


def test_retention_above_chance_has_its_interval_or_a_reason(report: ReportData) -> None:
    words = Page(render_report(report)).words
    assert "test_balanced accuracy 98.0 % (95.0–101.0) 96.0 % (90.0–102.0)" in words
    near = {**report.metrics["retention"]["test_balanced"], "above_chance_ci": None, "reason": "too near chance"}
    page = Page(render_report(with_metrics(report, retention={"test_balanced": near})))
    assert "98.0 % (95.0–101.0) 96.0 % 1" in page.words
    assert "too near chance" in page.words


def test_shared_rows_are_named_where_they_are_not_the_whole_set(report: ReportData) -> None:
    part = {"metric": "balanced_accuracy", "n": 220, "class_counts": {"ok": 200, "toxic": 20}}
    metrics = report.metrics
    teacher = metrics["systems"]["teacher"]
    scores = {**teacher["sets"], "test_balanced": {**teacher["sets"]["test_balanced"], "answered": 220}}
    changed = with_metrics(
        report,
        retention={"test_balanced": {**metrics["retention"]["test_balanced"], **part}},
        comparisons=[{**metrics["comparisons"][0], "n": 220, "class_counts": part["class_counts"]}],
        replacement={**metrics["replacement"], **part},
        systems={**metrics["systems"], "teacher": {**teacher, "sets": scores}},
    )
    words = Page(render_report(changed)).words
    assert "(90.0–102.0) 220 ok 200, toxic 20" in words
    assert "0.310 McNemar 220 ok 200, toxic 20" in words
    assert "Student minus teacher on test_balanced, points of balanced accuracy" in words
    assert "balanced accuracy on 220 rows of test_balanced" in words
    assert "balanced accuracy on test_balanced" in words


def test_calibration_says_that_rows_come_in_groups(report: ReportData) -> None:
    said = "the intervals allow for rows of a group that go right or wrong together"
    assert said not in Page(render_report(report)).words
    grouped = tuple({**record, "group": record["id"][-1]} for record in report.predictions)
    assert said in Page(render_report(replace(report, predictions=grouped))).words


def test_the_page_says_which_models_and_settings_it_judged(report: ReportData) -> None:
    html = render_report(report)
    words = Page(html).words
    for line in (
        "Teacher Qwen3-14B-Q4_K_M.gguf, 9.0 GB, Q4_K_M",
        "Student mlx-community/Qwen3-0.6B-4bit",
        "Student quantized no",
        "LoRA rank 8, scale 20, top 16 layers",
        "Training 2 epochs, 16 rows a batch, learning rate 0.0001, seed 7",
        "Threads teacher 6, student 8",
        "Filters min_confidence 0.8, min_characters 1, exact_duplicates",
        "Student’s peak memory 3.4 GB in training, 1.8 GB in prediction",
    ):
        assert line in words
    assert "someone" not in html


def test_the_memory_that_was_planned_stands_beside_what_was_taken(report: ReportData) -> None:
    stages = report.manifest["stages"]
    planned = {**stages, "train": {**stages["train"], "predicted_peak_bytes": 3_200_000_000}}
    words = Page(render_report(replace(report, manifest={**report.manifest, "stages": planned}))).words
    assert "3.4 GB in training (3.2 GB planned), 1.8 GB in prediction" in words


def test_other_ways_to_train_are_told(report: ReportData) -> None:
    lora = {"rank": 16, "scale": 8.0, "layers": 4, "rslora": True, "keys": ["self_attn.q_proj", "self_attn.v_proj"]}
    train = {
        "epochs": 1,
        "batch_size": "auto",
        "batch_tokens": 8192,
        "learning_rate": 1e-5,
        "schedule": "linear",
        "gradient_checkpointing": True,
        "seed": 0,
    }
    for fine_tune_type, said in (
        (
            "dora",
            "DoRA rank 16, scale 8 over the root of the rank, top 4 layers, on self_attn.q_proj and self_attn.v_proj",
        ),
        ("full", "Full fine-tuning top 4 layers"),
    ):
        student = {"model": "m", "fine_tune_type": fine_tune_type, "lora": lora}
        page = Page(render_report(replace(report, config={**report.config, "student": student, "train": train})))
        assert (
            f"{said} Training 1 epoch, at most 8,192 tokens at once, learning rate 1e-05, falling linearly"
            in page.words
        )
        assert "falling linearly, gradient checkpointing, seed 0" in page.words


def test_recorded_answers_and_other_models_are_named_too(report: ReportData) -> None:
    changed = {
        "teacher": {"name": "gpt-4", "model": None, "log": ["/logs/a.jsonl", "b.jsonl", "c.jsonl", "d.jsonl"]},
        "student": {"model": "~/models/tiny", "quantize": 4, "lora": {"rank": 8, "scale": 2.5, "layers": -1}},
    }
    config = {**report.config, **changed, "filter": {"min_confidence": None, "exact_duplicates": False}}
    words = Page(render_report(replace(report, config=config, teacher_files={}))).words
    assert "Teacher gpt-4, answers recorded in a.jsonl, b.jsonl, c.jsonl and 1 more" in words
    assert "Student tiny Student quantized to 4 bits LoRA rank 8, scale 2.5, all layers" in words
    assert "Filters none" in words
    assert "Threads student 8" in words
    assert "Models and settings" not in Page(render_report(replace(report, config={}))).words


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("Qwen3-14B-Q4_K_M.gguf", "Q4_K_M"),
        ("demo-teacher-q8_0.gguf", "Q8_0"),
        ("big-UD-IQ3_XXS-00001-of-00003.gguf", "IQ3_XXS"),
        ("model.f16.gguf", "F16"),
        ("Qwen3-14B.gguf", ""),
        ("sha256-00ff", ""),
    ],
)
def test_a_ggufs_name_tells_its_quantization(file: str, expected: str) -> None:
    assert quantization(file) == expected


def test_without_gold_only_agreement_is_shown(report_without_gold: ReportData) -> None:
    words = Page(render_report(report_without_gold)).words
    assert "There is no accuracy without gold" in words
    assert "– No verdict" in words
    assert "Agreement with the teacher" in words
    for absent in ("Macro-F1", "AUROC", "ECE", "Precision", "Accuracy on", "Gold"):
        assert absent not in words


def test_rows_without_a_teachers_answer_count_as_asked(report_without_gold: ReportData) -> None:
    sets = {**report_without_gold.metrics["sets"], "test_indist": {"n": 211, "without_teacher": 9}}
    words = Page(
        render_report(replace(report_without_gold, metrics={**report_without_gold.metrics, "sets": sets}))
    ).words
    assert "211 rows (9 more without a teacher’s answer)" in words
    assert "220/220" in words


def test_mistakes_show_text_only_where_it_is_given(report: ReportData) -> None:
    assert "Rows are named by id only" in Page(render_report(report)).words
    mistakes = (replace(report.mistakes[0], text="my parcel never came"), *report.mistakes[1:])
    words = Page(render_report(replace(report, mistakes=mistakes))).words
    assert "my parcel never came" in words
    assert "Rows are named by id only" not in words


def test_mistakes_are_counted_from_all_predictions(report: ReportData) -> None:
    wrong = sum(
        record["system"] == "student" and record["set"] == "test_balanced" and not record["correct"]
        for record in report.predictions
    )
    own = tuple(mistake for mistake in report.mistakes if mistake.set == "test_balanced")[:3]
    assert f"test_balanced: 3 of {wrong} rows" in Page(render_report(replace(report, mistakes=own))).words


def test_hostile_text_changes_nothing_but_text(report: ReportData) -> None:
    """Every string a user or a model could choose, against harmless ones at the same places."""
    kept = {
        *("test_indist", "test_balanced", "student", "teacher", "student_base", "majority", "tfidf_logreg"),
        *("gold", "accuracy", "undecided"),
    }
    data = replace(report, mistakes=tuple(replace(mistake, text="hello") for mistake in report.mistakes))
    keys = {
        name
        for name in _keys(data.metrics) | _keys(data.manifest) | _keys(data.predictions) | _keys(data.config)
        if name not in ("ok", "toxic")
    }

    def change(mark: str) -> Callable[[str], str]:
        return lambda text: text if text in kept or text in keys else text + mark

    harmless, hostile = (render_report(swapped(data, change(mark))) for mark in ("!", HOSTILE))
    assert Page(hostile).skeleton == Page(harmless).skeleton
    assert "<script" not in hostile
    assert "alert(1)" in Page(hostile).words
    assert "{{7*7}}" in hostile
    assert "[U+202E]" in hostile
    assert not re.search("[\x00\r\u202a-\u202e\u2066-\u2069]", hostile)
    hostile.encode("utf-8")


def _keys(value: Any) -> set[str]:
    if isinstance(value, Mapping):
        return {str(key) for key in value} | {name for each in value.values() for name in _keys(each)}
    if isinstance(value, list | tuple):
        return {name for each in value for name in _keys(each)}
    return set()


def test_hostile_system_and_set_names_are_escaped(report: ReportData) -> None:
    metrics = swapped(dict(report.metrics), lambda text: text + HOSTILE if text.startswith("test_") else text)
    metrics["systems"] = {**metrics["systems"], f"teacher:{HOSTILE}": metrics["systems"]["teacher"]}
    html = render_report(replace(report, metrics=metrics))
    assert "<script" not in html
    assert "<img" not in html
    assert not Page(html).open


def test_nothing_is_loaded_from_anywhere(report: ReportData) -> None:
    html = render_report(report)
    assert not re.search(r"https?:|url\(|@import|javascript:|xmlns|\bsrc=", html)
    page = Page(html)
    assert not page.named("script")
    assert [link["href"] for link in page.named("link")] == ["data:,"]
    policy = [meta["content"] for meta in page.named("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    assert not [name for _, attributes, _ in page.elements for name in attributes if name.startswith("on")]


@pytest.mark.parametrize("labels", [("ok", "toxic"), tuple(f"label {n}" for n in range(12)), tuple("abcdefghijklmn")])
def test_a_screen_reader_finds_its_way(report_with: Callable[..., ReportData], labels: tuple[str, ...]) -> None:
    page = Page(render_report(report_with(labels, 110, 140)))
    tags = [tag for tag, _, _ in page.elements]
    assert page.named("html")[0]["lang"] == "en"
    for landmark in ("header", "main", "nav", "footer", "h1"):
        assert tags.count(landmark) == 1
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in zip([0, *levels], levels, strict=False))
    assert tags.count("caption") == tags.count("table") > 5
    assert all("scope" in attributes for attributes in page.named("th"))
    assert tags.count("desc") == tags.count("svg") > 3
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    referred = {
        name for _, attributes, _ in page.elements for name in (attributes.get("aria-labelledby") or "").split()
    }
    assert referred <= set(ids)
    assert all(drawing["role"] == "img" for drawing in page.named("svg"))


def test_every_chart_is_a_table_too(report: ReportData) -> None:
    html = render_report(report)
    figures = re.findall(r"<figure.*?</figure>", html, flags=re.DOTALL)
    without = [figure for figure in figures if "<table>" not in figure]
    assert len(figures) == 1 + 2 + 4 + 4 + 1 + 2
    assert len(without) == 2
    assert all('id="dots-' in figure for figure in without), "the score charts stand beside the score tables"


def test_many_labels_list_the_worst_pairs(report_with: Callable[..., ReportData]) -> None:
    html = render_report(report_with([f"intent_{number}" for number in range(150)], 300, 300))
    words = Page(html).words
    assert "the 15 worst of" in words
    assert 'id="confusion-0-0-title"' not in html
    assert "Each label on test_balanced" in words


@pytest.mark.parametrize(
    "metrics",
    [
        {},
        {"schema": 1, "labels": None, "sets": None, "systems": None, "comparisons": None, "retention": None},
        {"sets": {"test_indist": None}, "systems": {"student": None}, "labels": ["ok", "toxic"]},
        {
            "sets": {"test_indist": {"n": 0}},
            "systems": {"student": {"sets": {"test_indist": None}}},
            "reference": "gold",
        },
        {"reference": "teacher", "sets": {"test_indist": {"n": 3}}, "systems": {"teacher": {"sets": {}}}},
    ],
)
def test_a_run_with_nothing_still_gives_a_page(metrics: dict[str, Any]) -> None:
    page = Page(render_report(ReportData("empty", metrics, "Nothing was measured.")))
    assert not page.open
    for sentence in ("No verdict", "No losses were recorded", "No filter ran", "None are listed", "No stages"):
        assert sentence in page.words


def test_null_scores_of_one_system_still_give_a_page(report: ReportData) -> None:
    nulls = dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1", "auroc", "ece", "per_class", "confusion"))
    student = {"sets": {"test_indist": {"answered": 0, **nulls}}, "rows_per_second": None, "peak_memory_bytes": None}
    replacement = {"verdict": "undecided", "difference": None, "ci": None, "margin": 0.02, "reason": "no row in common"}
    metrics = {**report.metrics, "systems": {"student": student}, "comparisons": [], "replacement": replacement}
    words = Page(render_report(replace(report, metrics=metrics, predictions=(), mistakes=()))).words
    assert "no row was answered" in words
    assert "Undecided" in words
    assert "nan" not in words.lower().split()


def test_numbers_that_are_none_are_never_drawn(report: ReportData) -> None:
    training = (TrainPoint(1, float("nan"), float("inf")), TrainPoint(2, 0.5), TrainPoint(3, float("inf"), 0.4))
    html = render_report(replace(report, training=training, funnel=(FunnelStep("all", 0, 0),)))
    assert "2 steps without a finite loss are left out" in Page(html).words
    assert not re.search(r'"[^"]*\b(nan|inf)\b[^"]*"', html)


def test_the_page_stays_small(report_with: Callable[..., ReportData]) -> None:
    data = report_with(("ok", "toxic", "spam"), 1000, 1000)
    assert len(data.predictions) == 10_000
    long = tuple(Mistake(f"row-{n}", "test_balanced", "ok", "spam", "ok", 0.5, "&<" * 5000) for n in range(1000))
    training = tuple(TrainPoint(step, 1 / step, 1 / step if step % 500 == 0 else None) for step in range(1, 50_001))
    html = render_report(replace(data, mistakes=long, training=training))
    assert len(html.encode()) < MOST_BYTES
    assert "200 of 1,000 rows" in html
    assert "9,400 more characters" in html


def test_the_same_data_gives_the_same_bytes(report: ReportData, report_with: Callable[..., ReportData]) -> None:
    assert render_report(report) == render_report(report_with())


def test_written_whole_private_and_again(report: ReportData, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    path = write_report(run, report)
    write_report(run, report)
    assert path == run.report
    assert path.read_text("utf-8") == render_report(report)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in run.path.iterdir()] == ["report.html"]


def test_a_folder_that_cannot_be_written_is_a_plain_error(report: ReportData, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(MlxDistillError) as raised:
        write_report(RunDir(tmp_path / "run"), report)
    assert raised.value.hint
