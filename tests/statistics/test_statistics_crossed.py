"""Differences over rows and seeds: no more false alarms than promised, and none of the two sources forgotten."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mlxdistill.statistics.crossed import crossed_difference


def simulated(rng: np.random.Generator, seeds: int, rows: int, groups: int | None = None) -> np.ndarray:
    """Right less right of two settings that are equal: rows, seeds and chance each make some difference."""
    of_rows = rng.normal(0, 0.5, groups or rows)
    of_rows = of_rows[np.arange(rows) % groups] if groups else of_rows
    noise = of_rows + rng.normal(0, 0.25, (seeds, 1)) + rng.normal(0, 1, (seeds, rows))
    return np.where(noise > 1.2, 1.0, np.where(noise < -1.2, -1.0, 0.0))


@pytest.mark.parametrize(("seeds", "rows", "groups"), [(2, 400, None), (3, 400, None), (5, 200, None), (3, 400, 40)])
def test_false_alarms_stay_at_the_level(seeds: int, rows: int, groups: int | None) -> None:
    rng = np.random.default_rng(seeds)
    clusters = None if groups is None else np.arange(rows) % groups
    p_values = np.array([crossed_difference(simulated(rng, seeds, rows, groups), clusters)[1] for _ in range(1500)])
    assert (p_values < 0.05).mean() < 0.055 + 2 * np.sqrt(0.05 * 0.95 / 1500)


def test_rows_alone_would_raise_false_alarms() -> None:
    rng = np.random.default_rng(7)
    alarms = [stats.ttest_1samp(simulated(rng, 3, 400).mean(axis=0), 0).pvalue < 0.05 for _ in range(400)]
    assert np.mean(alarms) > 0.15


def test_without_seed_noise_it_is_the_t_test_over_rows() -> None:
    rows = np.random.default_rng(3).choice([-1.0, 0.0, 1.0], 300, p=[0.1, 0.7, 0.2])
    interval, p_value = crossed_difference(np.tile(rows, (4, 1)), None)
    expected = stats.ttest_1samp(rows, 0)
    assert p_value == pytest.approx(expected.pvalue)
    assert interval.ci == pytest.approx(tuple(expected.confidence_interval()))


def test_what_does_not_vary_has_no_interval() -> None:
    interval, p_value = crossed_difference(np.zeros((3, 10)), None)
    assert (interval.value, interval.ci, p_value) == (0.0, None, 1.0)
    assert interval.reason
