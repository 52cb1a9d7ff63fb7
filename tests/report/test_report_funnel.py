"""The funnel: which filter took how many rows of which class, and why, without any text."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mlxdistill.report.data import FunnelStep, ReportData
from mlxdistill.report.page import render_report


def section(data: ReportData) -> str:
    found = re.search(r'<section id="funnel".*?</section>', render_report(data), flags=re.DOTALL)
    assert found is not None
    return found.group()


def words(data: ReportData) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", section(data)).split()).replace("\u00a0", " ")


def test_the_share_of_each_class_stands_before_and_after(report: ReportData) -> None:
    said = words(report)
    assert "10,000 rows came to the filters, 8,120 taught the student (81.2 %)." in said
    assert "ok 90.0 % → 99.8 % toxic 10.0 % → 0.2 %" in said
    assert "toxic 1,000 10.0 % 20 0.2 % 2.0 %" in said


def test_each_filter_says_how_much_of_a_class_it_takes(report: ReportData) -> None:
    said = words(report)
    assert (
        "exact_duplicates 390 30 0.3 % 360 36.0 % noise 20 0 20 3.1 % min_confidence 1,460 860 9.6 % 600 96.8 %" in said
    )


def test_with_many_classes_the_one_it_takes_most_of_is_named(report_with: Callable[..., ReportData]) -> None:
    said = words(report_with([f"intent_{number}" for number in range(40)], 110, 110))
    assert "Takes most of" in said
    assert "min_confidence 1,460 intent_39 600 96.8 %" in said
    assert "The 12 largest of 40 classes." in said


def test_the_class_that_is_named_is_the_one_that_loses_the_largest_part(report: ReportData) -> None:
    classes = {f"common_{number}": (900, 100) for number in range(6)} | {"rare": (5, 15)}
    said = words(replace(report, funnel=(FunnelStep("noise", 5405, 615, {"why": 615}, {}, classes),)))
    assert "noise 615 rare 15 75.0 %" in said


def test_reasons_come_with_ids_and_treatments_are_counted(report: ReportData) -> None:
    said = words(report)
    assert "exact_duplicates the same text as another row 390 row-17, row-90" in said
    assert "31 count less, 4 learn another label" in said
    assert "filter.min_confidence takes 600 of the 1,000 rows labelled toxic." in said


@pytest.mark.parametrize(
    "funnel",
    [
        (),
        (FunnelStep("answered", 0, 0),),
        (FunnelStep("answered", 3, 0), FunnelStep("length", 3, 0)),
        (FunnelStep("length", 0, 3, {"too long": 3}, {}, {"ok": (0, 3)}),),
        (FunnelStep("length", 2, 0, {}, {}, {"ok": (2, 0)}), FunnelStep("judge", 0, 2, {"worst": 2})),
    ],
)
def test_a_funnel_may_have_nothing_to_say(report: ReportData, funnel: tuple[FunnelStep, ...]) -> None:
    said = words(replace(report, funnel=funnel, filter_notes=()))
    assert said.startswith("Filters")
    assert "nan" not in said


def test_a_run_from_before_classes_were_counted_still_has_its_bars(report: ReportData) -> None:
    bare = tuple(FunnelStep(step.filter, step.kept, step.dropped) for step in report.funnel)
    html = section(replace(report, funnel=bare))
    assert 'id="funnel-bars-title"' in html
    assert 'id="class-bars-title"' not in html


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ({"judge": {"drop": 0.05, "per_class": True, "least": None}}, "judge (the worst 5 % of each class)"),
        ({"judge": {"drop": 0.1, "per_class": False}}, "judge (the worst 10 % of all rows)"),
        ({"judge": {"least": 2.5}, "rules": [{}, {}]}, "judge (grades under 2.5), 2 rules"),
        ({"seed": 4, "noise": None, "noise_action": "weigh", "near_duplicates": 0.8}, "near_duplicates 0.8"),
        ({"noise": 0.05, "noise_action": "weigh"}, "noise 0.05, noise_action weigh"),
    ],
)
def test_the_settings_name_the_filters_that_are_on(report: ReportData, filters: dict[str, Any], said: str) -> None:
    html = render_report(replace(report, config={**report.config, "filter": filters}))
    found = re.search(r"<bdi>Filters</bdi></th><td[^>]*><bdi>([^<]*)</bdi>", html)
    assert found is not None
    assert found[1] == said
