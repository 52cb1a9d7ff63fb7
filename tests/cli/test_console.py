"""The terminal's table shows the numbers that the page shows."""

from __future__ import annotations

from typing import Any

import pytest

from mlxdistill.cli.console import print_scores
from mlxdistill.report.numbers import NO_BREAK_SPACE, percent_interval, rate, size


def system(value: float, ci: list[float] | None, answered: int = 400, **measured: Any) -> dict[str, Any]:
    scores = {"answered": answered, "accuracy": {"value": value, "ci": ci}}
    return {"sets": {"test_balanced": scores}, "rows_per_second": None, "peak_memory_bytes": None, **measured}


def test_numbers_and_units_are_those_of_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    systems = {
        "teacher": system(0.91, [0.869, 0.94], 220, rows_per_second=74.318, peak_memory_bytes=90_673_152),
        "student": system(0.9, None, rows_per_second=1240.4, peak_memory_bytes=1_800_000_000),
        "majority": {"sets": {"test_balanced": {"answered": 0, "accuracy": None}}},
    }
    print_scores({"reference": "gold", "sets": {"test_balanced": {"n": 400}}, "systems": systems})
    out = capsys.readouterr().out
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in out.splitlines() if line.split()}
    assert lines["teacher"] == "91.0 (86.9–94.0) of 220 74.3 90.7 MB"
    assert lines["student"] == "90.0 1,240 1.8 GB"
    assert lines["majority"] == "– – –"
    assert NO_BREAK_SPACE not in out
    for shown in (percent_interval(0.869, 0.94), rate(74.318), size(90_673_152).replace(NO_BREAK_SPACE, " ")):
        assert shown in out
    assert "MiB" not in out
