"""Gold by people, as the report says it."""

from __future__ import annotations

from dataclasses import replace

from mlxdistill.report.data import ReportData
from mlxdistill.report.page import render_report


def test_the_page_says_whose_gold_it_is(report: ReportData) -> None:
    sizes = report.metrics["sets"]
    name = next(iter(sizes))
    said = {**sizes[name], "without_gold": 7, "gold_by_people": 31, "disputed_gold": 2}
    metrics = {**report.metrics, "reference": "person", "sets": {**sizes, name: said}}
    page = render_report(replace(report, metrics=metrics))
    assert "(7 more without gold) (31 with gold by a person) (2 whose gold a person disagrees with)" in page
    assert "There is no accuracy without gold" not in page
    assert "with gold by a person" not in render_report(report)
