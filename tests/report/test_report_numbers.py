from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdistill.report.calibration import Outcome, reliability_bins, top_outcome
from mlxdistill.report.drawing import ticks
from mlxdistill.report.numbers import (
    Estimate,
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
from mlxdistill.statistics.calibration import BINS, calibration_error
from mlxdistill.statistics.intervals import wilson_ends
from mlxdistill.statistics.written import decimal


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
@given(st.lists(st.builds(Outcome, st.floats(0, 1), st.booleans()), max_size=80))
def test_each_prediction_falls_into_one_bin_that_holds_it(outcomes: list[Outcome]) -> None:
    outcomes = [replace(outcome, row=str(number)) for number, outcome in enumerate(outcomes)]
    bins = reliability_bins(outcomes)
    assert len(bins) == BINS
    assert sum(each.count for each in bins) == len(outcomes)
    for each in bins:
        if each.count:
            assert each.low - 1e-12 <= each.confidence <= each.high + 1e-12
            assert each.correct.interval == wilson_ends(round((each.correct.value or 0) * each.count), each.count)


def test_a_bin_holds_its_upper_end() -> None:
    outcomes = [Outcome(1 / 15, True, "a"), Outcome(0.0, True, "b"), Outcome(1.0, False, "c")]
    assert [each.count for each in reliability_bins(outcomes)] == [2, *[0] * 13, 1]


def test_the_diagram_adds_up_to_the_calibration_error() -> None:
    draw = random.Random(0)
    outcomes = [Outcome(draw.random(), draw.random() < 0.7, str(number)) for number in range(200)]
    error = sum(each.count * abs(each.confidence - (each.correct.value or 0.0)) for each in reliability_bins(outcomes))
    confidence = np.array([outcome.probability for outcome in outcomes])
    right = np.array([float(outcome.right) for outcome in outcomes])
    assert error / 200 == pytest.approx(calibration_error(confidence, right))


def test_whiskers_are_wider_where_rows_of_a_bin_come_in_groups() -> None:
    """40 rows of four groups, each all right or all wrong: hardly more than four rows' worth of evidence."""
    rows = [Outcome(0.95, number % 4 != 0, str(number)) for number in range(40)]
    groups = [replace(outcome, group=str(number % 4)) for number, outcome in enumerate(rows)]
    alone, grouped = (reliability_bins(outcomes)[-1].correct for outcomes in (rows, groups))
    assert alone.value == grouped.value == 0.75
    assert alone.interval == wilson_ends(30, 40)
    assert grouped.interval[1] - grouped.interval[0] > 2 * (alone.interval[1] - alone.interval[0])
    one = reliability_bins([replace(outcome, group="only") for outcome in rows])[-1].correct
    assert (one.interval, one.reason) == (None, "all rows are of one group")


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"probabilities": [0.3, 0.7], "gold": "toxic", "id": "a"}, Outcome(0.7, True, "a")),
        ({"probabilities": [0.3, 0.7], "gold": "ok", "id": "a", "group": 7}, Outcome(0.7, False, "a", "7")),
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
