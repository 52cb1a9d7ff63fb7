from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdistill.report.calibration import BINS, reliability_bins, top_outcome
from mlxdistill.report.drawing import ticks
from mlxdistill.report.numbers import (
    Estimate,
    decimal,
    duration,
    p_value,
    percent,
    percent_interval,
    points,
    points_interval,
    rate,
    read_estimate,
    size,
)
from mlxdistill.report.svg import CurvePoint
from mlxdistill.report.training import MOST_POINTS, thinned


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (percent(0.91), "91.0\u00a0%"),
        (percent(None), "–"),
        (percent(-0.0001), "0.0\u00a0%"),
        (percent_interval(0.869, 0.94), "(86.9–94.0)"),
        (percent_interval(-0.1, 0.2), "(−10.0\u00a0to\u00a020.0)"),
        (percent_interval(None, 0.2), ""),
        (points(-0.012), "−1.2"),
        (points(0.03), "+3.0"),
        (points(0.0), "0.0"),
        (points_interval(-0.03, 0.006), "(−3.0\u00a0to\u00a0+0.6)"),
        (rate(0.583), "0.58"),
        (rate(18.26), "18.3"),
        (rate(1240.4), "1,240"),
        (size(1_800_000_000), "1.8\u00a0GB"),
        (size(12), "12\u00a0B"),
        (duration(4.21), "4.2\u00a0s"),
        (duration(725), "12\u00a0min 05\u00a0s"),
        (duration(59.99), "60.0\u00a0s"),
        (duration(11_220), "3\u00a0h 07\u00a0min"),
        (p_value(0.0004), "< 0.001"),
        (p_value(0.31), "0.310"),
    ],
)
def test_numbers_read_as_promised(shown: str, expected: str) -> None:
    assert shown == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, Estimate(reason="why")),
        (0.5, Estimate(0.5)),
        (True, Estimate(reason="why")),
        (math.nan, Estimate(reason="why")),
        ({"value": 0.5, "ci": [0.4, 0.6]}, Estimate(0.5, 0.4, 0.6)),
        ({"value": 0.5, "ci": None, "reason": "one group"}, Estimate(0.5, reason="one group")),
        ({"value": None, "reason": "own"}, Estimate(reason="own")),
        ({"value": None}, Estimate(reason="why")),
        ("0.5", Estimate(reason="why")),
    ],
)
def test_values_are_read_in_every_form(raw: object, expected: Estimate) -> None:
    assert read_estimate(raw, reason="why") == expected


@settings(deadline=None)
@given(st.floats(-1e6, 1e6))
def test_a_decimal_has_one_place_and_no_negative_zero(value: float) -> None:
    shown = decimal(value)
    assert shown != "−0.0"
    assert float(shown.replace("−", "-").replace(",", "")) == pytest.approx(value, abs=0.0501)


@settings(deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_ticks_cover_the_span_and_are_few(low: float, span: float) -> None:
    marks = ticks(low, low + span)
    assert marks == sorted(set(marks))
    assert 2 <= len(marks) <= 9
    slack = 1e-6 * max(1.0, abs(low) + span)
    assert marks[0] <= low + slack
    assert marks[-1] >= low + span - slack


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=80))
def test_each_prediction_falls_into_one_bin_that_holds_it(outcomes: list[tuple[float, bool]]) -> None:
    bins = reliability_bins(outcomes)
    assert len(bins) == BINS
    assert sum(each.count for each in bins) == len(outcomes)
    for each in bins:
        if each.count:
            assert each.low - 1e-12 <= each.confidence <= each.high + 1e-12
            assert each.correct.interval is not None
            assert each.correct.interval[0] <= (each.correct.value or 0.0) <= each.correct.interval[1]


def test_a_bin_holds_its_upper_end() -> None:
    counts = [each.count for each in reliability_bins([(1 / 15, True), (0.0, True), (1.0, False)])]
    assert counts == [2, *[0] * 13, 1]


def test_the_diagram_adds_up_to_the_calibration_error() -> None:
    outcomes = [(0.95, True), (0.95, False), (0.7, True), (0.55, False)]
    error = sum(each.count * abs(each.confidence - (each.correct.value or 0.0)) for each in reliability_bins(outcomes))
    assert error / 4 == pytest.approx((2 * 0.45 + 0.3 + 0.55) / 4)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"probabilities": [0.3, 0.7], "gold": "toxic"}, (0.7, True)),
        ({"probabilities": [0.3, 0.7], "gold": "ok"}, (0.7, False)),
        ({"probabilities": [0.3, 0.7], "gold": None}, None),
        ({"probabilities": None, "gold": "ok"}, None),
        ({"probabilities": [1.0], "gold": "ok"}, None),
        ({"probabilities": [math.nan, 0.7], "gold": "ok"}, None),
    ],
)
def test_only_rows_with_probabilities_and_gold_count(record: dict[str, object], expected: object) -> None:
    assert top_outcome(record, ["ok", "toxic"]) == expected


@settings(deadline=None)
@given(st.integers(1, 3000))
def test_a_thinned_curve_keeps_its_mean_and_its_end(length: int) -> None:
    curve = [CurvePoint(step, float(step % 7)) for step in range(length)]
    drawn, group = thinned(curve)
    assert len(drawn) <= MOST_POINTS
    assert drawn[-1].step == length - 1
    if length % group == 0:
        mean = sum(point.loss for point in drawn) / len(drawn)
        assert mean == pytest.approx(sum(point.loss for point in curve) / length)
