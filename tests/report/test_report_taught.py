"""The page says how many rows of each class taught the student, and how many of them a teacher wrote."""

from __future__ import annotations

from dataclasses import replace

from mlxdistill.report.data import ReportData
from mlxdistill.report.page import render_report
from mlxdistill.report.taught import taught_section

COUNTS = {
    "ok": {"rows": 90, "synthetic": 0, "per_epoch": 90},
    "toxic <b>": {"rows": 30, "synthetic": 20, "per_epoch": 90},
}


def manifest(counts: dict[str, dict[str, int]]) -> dict[str, object]:
    return {"stages": {"train": {"finished": "2026-11-23T05:00:00+00:00", "figures": {"label_counts": counts}}}}


def test_the_share_of_synthetic_rows_is_told(report: ReportData) -> None:
    config = {**report.config, "train": {"class_balance": "upsample"}}
    page = render_report(replace(report, manifest=manifest(COUNTS), config=config))
    assert 'id="taught"' in page
    assert "The student learned from 120 rows, 20 of them (16.7\u00a0%) synthetic" in page
    assert "Rows of smaller classes were repeated" in page
    assert "toxic &lt;b&gt;" in page
    assert "toxic <b>" not in page


def test_nothing_is_said_that_was_not_counted(report: ReportData) -> None:
    assert 'id="taught"' not in render_report(replace(report, manifest=manifest({})))
    section = taught_section(manifest({"ok": COUNTS["ok"]}), {})
    assert section is not None
    assert section.paragraphs == ("The student learned from 90 rows, none of them synthetic.",)


def test_many_labels_are_folded_away() -> None:
    section = taught_section(manifest({f"label {number}": COUNTS["ok"] for number in range(77)}), {})
    assert section is not None
    assert not section.tables
    assert len(section.folded[0].rows) == 77
