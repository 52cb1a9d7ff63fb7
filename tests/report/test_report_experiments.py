"""The page of a run with experiments: what more labels would bring, and what is more than noise."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from mlxdistill.report.data import ReportData
from mlxdistill.report.experiments import learning_curve_section, sweep_section
from mlxdistill.report.page import render_report


def estimate(value: float) -> dict[str, Any]:
    return {"value": value, "ci": [value - 0.04, value + 0.03], "method": "bootstrap of test rows and seeds"}


def curve() -> dict[str, Any]:
    shares = (5, 10, 25, 50, 75, 100)
    accuracies = (0.6, 0.66, 0.74, 0.79, 0.81, 0.82)
    points = [
        {"share": share, "rows": share * 40, "student": estimate(value), "tfidf_logreg": estimate(value - 0.05)}
        for share, value in zip(shares, accuracies, strict=True)
    ]
    return {
        "metric": "accuracy",
        "sets": {"test_balanced": {"n": 400, "points": points}},
        "sentence": "Twice the labels (8,000 rows) would bring about 1.5 points <b>.",
    }


def swept() -> dict[str, Any]:
    def tried(key: str, value: Any, difference: float, verdict: str) -> dict[str, Any]:
        entry = {"value": 0.8 + difference, "seed_sd": 0.011, "difference": difference, "verdict": verdict}
        doubt = {"ci": [difference - 0.02, difference + 0.02], "p_holm": 0.0004 if verdict == "better" else 0.6}
        return {"key": key, "value": value, "base_value": 2, "sets": {"test_balanced": {**entry, **doubt}}}

    return {
        "metric": "accuracy",
        "seeds": 3,
        "base": {"sets": {"test_balanced": {"value": 0.8, "seed_sd": 0.013}}},
        "settings": [
            tried("train.epochs", 4, 0.05, "better"),
            tried("student.lora.keys", ["<i>"], -0.004, "within the noise"),
        ],
    }


def test_the_curve_is_drawn_and_stands_in_a_table(report: ReportData) -> None:
    page = render_report(replace(report, learning_curve=curve()))
    section = page[page.index('id="learning-curve"') :]
    assert "Twice the labels (8,000 rows) would bring about 1.5 points &lt;b&gt;." in section
    assert re.search(r"4,000 rows: student 82\.0.%", section)
    (table,) = [figure.table for figure in learning_curve_section(curve()).figures]
    assert table is not None
    assert [row[0].text for row in table.rows] == ["5 %", "10 %", "25 %", "50 %", "75 %", "100 %"]
    assert table.rows[2][2].text.startswith("74.0")
    assert table.rows[2][2].detail == "(70.0–77.0)"


def test_one_share_alone_can_be_drawn() -> None:
    few = curve()
    few["sets"]["test_balanced"]["points"] = few["sets"]["test_balanced"]["points"][-1:]
    few["sets"]["test_balanced"]["points"][0]["student"]["ci"] = None
    assert len(learning_curve_section(few).figures) == 1


def test_what_is_more_than_noise_is_marked(report: ReportData) -> None:
    (table,) = sweep_section(swept()).tables
    assert table.strong == {1}
    assert [cell.text for cell in table.rows[1]][3:] == ["+5.0", "< 0.001", "better"]
    assert table.rows[2][1].detail == "base: 2"
    page = render_report(replace(report, sweep=swept()))
    assert "train.epochs" in page
    assert "<i>" not in page[page.index('id="sweep"') :].split("</section>")[0]


def test_without_experiments_the_page_has_no_such_sections(report: ReportData) -> None:
    page = render_report(report)
    assert 'id="learning-curve"' not in page
    assert 'id="sweep"' not in page
