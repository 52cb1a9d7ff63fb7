"""The page of a run whose prompts were compared says which were, how they did and what that proves."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from mlxdistill.report.data import ReportData
from mlxdistill.report.page import render_report
from mlxdistill.report.prompts import COLUMNS, prompts_section


def candidate(name: str, accuracy: float, **more: Any) -> dict[str, Any]:
    """One entry of `candidates` in evaluation/prompts.json."""
    against = {
        "b": "default",
        "n": 200,
        "difference": round(accuracy - 0.85, 3),
        "ci": [round(accuracy - 0.91, 3), round(accuracy - 0.79, 3)],
        "method": "tango",
        "test": "mcnemar exact",
        "p_value": 0.012,
        "p_adjusted": 0.036,
    }
    return {
        "name": name,
        "teacher": "teacher",
        "configured": name == "default",
        "answered": 200,
        "unparsable": 3,
        "truncated": 1,
        "accuracy": {"value": accuracy, "ci": [accuracy - 0.05, accuracy + 0.04], "method": "wilson"},
        "balanced_accuracy": {"value": accuracy - 0.01, "ci": None, "reason": "the rows do not vary"},
        "tokens_per_row": 52.125,
        "rows_per_second": 47.9,
        "against_best": None if name == "default" else against,
        "verdict": "most rows right" if name == "default" else "no significant difference",
        **more,
    }


@pytest.fixture
def outcome() -> dict[str, Any]:
    return {
        "schema": 1,
        "n": 200,
        "candidates": [
            candidate("default", 0.85),
            candidate("short", 0.825),
            candidate("<b>poem</b>", 0.6, verdict="worse", tokens_per_row=None, rows_per_second=None),
        ],
        "recommendations": [{"configured": "default", "recommended": "default", "sentence": "Keep default: because."}],
        "caveats": ["With 200 rows, …", "The best of 3 …"],
    }


def test_every_candidate_with_its_doubt(report: ReportData, outcome: dict[str, Any]) -> None:
    page = render_report(replace(report, prompts=outcome))
    part = page[page.index('<section id="prompts"') :]
    part = part[: part.index("</section>")]
    for said in ("Keep default: because.", "With 200 rows, …", "The best of 3 …"):
        assert said in part
    shown = [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in re.findall(r"<tr.*?</tr>", part, re.DOTALL)]
    assert shown[1] == ("default configured 85.0 % (80.0–89.0) 84.0 % 1 3 1 truncated 52.1 47.9 – – most rows right")
    assert shown[2] == (
        "short 82.5 % (77.5–86.5) 81.5 % 1 3 1 truncated 52.1 47.9 −2.5 (−8.5 to +3.5) 0.036 no significant difference"
    )
    assert shown[3].startswith("&lt;b&gt;poem&lt;/b&gt; 60.0 %")
    assert '<tr class="strong"><th scope="row"><bdi>default</bdi>' in part
    assert "its answers came from the store, and what they took was not measured" in part
    assert part.count("dot hollow") == 1  # the one that is worse
    assert '<a href="#prompts">Prompts</a>' in page
    assert "predictions.jsonl, those of prompts from labels.sqlite." in page


def test_a_run_without_a_comparison_has_no_such_section(report: ReportData) -> None:
    page = render_report(report)
    assert 'id="prompts"' not in page
    assert "labels.sqlite" not in page


def test_a_candidate_that_answered_nothing_has_no_point(outcome: dict[str, Any]) -> None:
    empty = {**candidate("log", 0.5), "accuracy": None, "balanced_accuracy": None, "verdict": "no row in common"}
    section = prompts_section({**outcome, "candidates": [outcome["candidates"][0], empty]})
    assert section.figures[0].drawing.count("<circle") == 1
    assert len(section.tables[0].rows[1]) == len(COLUMNS)
    assert prompts_section({**outcome, "candidates": [empty]}).figures == ()
