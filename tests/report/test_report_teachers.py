"""The page says of each teacher how far it can be relied on, and of each step what it did."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlxdistill.report.data import ModelFile, ReportData
from mlxdistill.report.numbers import MISSING
from mlxdistill.report.page import render_report
from mlxdistill.report.teachers import teachers_section

ACCURACY = {"value": 0.8, "ci": [0.7, 0.87], "method": "wilson"}
ECE = {"value": 0.081, "ci": None, "method": "15 equal-width bins"}
EFFECT = {
    "teacher": "small",
    "step": "temperature",
    "temperature": 1.734,
    "n": 44,
    "before": {"accuracy": ACCURACY, "ece": ECE},
    "after": {"accuracy": ACCURACY, "ece": {**ECE, "value": 0.032}},
    "difference": {"value": 0.05, "ci": [-0.02, 0.12], "method": "tango"},
}
TEACHERS = {
    "small": {
        "answers": 9800,
        "unparsable": 3,
        "agreement": {"value": 0.913, "ci": [0.9, 0.92], "method": "wilson", "n": 9797},
        "validation": {"n": 88, "accuracy": ACCURACY, "ece": ECE},
        "rows_per_second": 18.3,
        "peak_memory_bytes": 9_400_000_000,
        "dawid_skene": {
            "accuracy": 0.876,
            "recall": {"ok": 0.951, "<b>": 0.702},
            "confusion": [[0.951, 0.049], [0.298, 0.702]],
        },
    },
    "desk": {
        "answers": 0,
        "unparsable": 0,
        "agreement": None,
        "validation": {"n": 0, "accuracy": None, "ece": None},
        "rows_per_second": None,
        "peak_memory_bytes": None,
        "dawid_skene": {"accuracy": None, "recall": {"ok": 0.5, "<b>": None}},
    },
}


def manifest(**figures: Any) -> dict[str, Any]:
    return {"stages": {"label": {"figures": figures}}}


def page(report: ReportData, **figures: Any) -> str:
    stages = {**report.manifest["stages"], **manifest(**figures)["stages"]}
    return render_report(replace(report, manifest={"stages": stages})).replace("\u00a0", " ")


def test_a_single_plain_teacher_has_no_section_of_its_own(report: ReportData) -> None:
    assert teachers_section(report.manifest) is None
    assert teachers_section({}) is None
    assert 'id="teachers"' not in render_report(report)


def test_reliabilities_have_their_intervals_and_gaps_their_reasons(report: ReportData) -> None:
    html = page(report, teachers=TEACHERS, effects=[])
    for words in ("91.3 %", "(90.0–92.0)", "80.0 %", "(70.0–87.0)", "87.6 %", "9,800", "18.3", "9.4 GB"):
        assert words in html, words
    for reason in ("it named no label", "no validation row with gold was answered", "not measured: recorded answers"):
        assert reason in html, reason


def test_what_the_model_believes_is_a_table_for_each_teacher_and_nothing_is_markup(report: ReportData) -> None:
    section = teachers_section(manifest(teachers=TEACHERS))
    assert section is not None
    small, desk = section.folded
    assert [column.name for column in small.columns] == ["Right label", "ok", "<b>"]
    assert [cell.text for cell in small.rows[1]] == ["<b>", "29.8\u00a0%", "70.2\u00a0%"]
    assert [column.name for column in desk.columns] == ["Right label", "Answered so"]
    assert [row[1].text for row in desk.rows] == ["50.0\u00a0%", MISSING]
    reliabilities = section.tables[0]
    believed = [column.name for column in reliabilities.columns].index("Right, by the model")
    assert [row[believed].text for row in reliabilities.rows] == ["87.6\u00a0%", MISSING]
    assert reliabilities.rows[1][believed].note is not None
    assert "<b>" not in page(report, teachers=TEACHERS)


def test_effects_say_before_after_difference_and_rows(report: ReportData) -> None:
    html = page(report, effects=[EFFECT])
    for words in ("Temperature", "small; T = 1.73", "+5.0", "(−2.0 to +12.0)", "8.1 %", "3.2 %", "44"):
        assert words in html, words
    combined = {**EFFECT, "teacher": None, "step": "combination", "against": "small", "temperature": None}
    assert "before: small, the best of them on these rows" in page(report, effects=[combined])


def test_an_effect_that_could_not_be_measured_says_why(report: ReportData) -> None:
    nothing = {"accuracy": None, "ece": None}
    empty = {**EFFECT, "n": 0, "before": nothing, "after": nothing, "difference": None}
    html = page(report, effects=[empty])
    assert "no validation row with gold was answered" in html
    assert "needs class probabilities" in html


def test_several_teachers_are_named_with_their_files_and_how_they_were_combined(report: ReportData) -> None:
    teachers = [
        {"name": "big", "model": "/Users/someone/models/Qwen3-14B-Q4_K_M.gguf", "label_orders": 3, "calibrate": "x"},
        {"name": None, "model": None, "log": ["/Users/someone/logs/a.jsonl"]},
    ]
    settings = {"big": {"threads": 6}, "teacher2": None}
    stages = {**report.manifest["stages"]}
    stages["label"] = {**stages["label"], "settings": settings}
    changed = replace(
        report,
        config={**report.config, "teacher": teachers, "combine": "dawid_skene"},
        teacher_files={"big": ModelFile("Qwen3-14B-Q4_K_M.gguf", 9_001_752_960)},
        manifest={"stages": stages},
    )
    html = render_report(changed).replace("\u00a0", " ")
    for words in (
        "Teacher big",
        "Qwen3-14B-Q4_K_M.gguf, 9.0 GB, Q4_K_M, 3 label orders, corrected by content-free texts",
        "Teacher teacher2",
        "answers recorded in a.jsonl",
        "Dawid and Skene’s model",
        "teacher big 6, student 8",
    ):
        assert words in html, words
    assert "someone" not in html


@pytest.mark.parametrize("system", ["teacher:big", "teacher:desk"])
def test_teachers_of_their_own_stand_beside_the_teacher(report: ReportData, system: str) -> None:
    systems = {**report.metrics["systems"], system: report.metrics["systems"]["teacher"]}
    html = render_report(replace(report, metrics={**report.metrics, "systems": systems}))
    assert f"Teacher {system.partition(':')[2]}" in html
