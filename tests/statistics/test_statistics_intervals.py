import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm, t

from mlxdistill.statistics.intervals import (
    Interval,
    Z,
    cluster_ratio,
    mean_interval,
    percentile_ends,
    percentile_levels,
    proportion,
    t_quantile,
    wilson,
    wilson_ends,
)
from mlxdistill.statistics.resampling import sums_by_cluster


@settings(deadline=None)
@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(case):
    successes, n = case
    interval = wilson(successes, n)
    expected = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert interval.value == successes / n
    assert interval.ci == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= interval.ci[0] <= interval.value <= interval.ci[1] <= 1


def test_wilson_ends_touch_zero_and_one_exactly_but_never_collapse():
    assert wilson_ends(0, 20)[0] == 0.0
    assert wilson_ends(0, 20)[1] > 0.1
    assert wilson_ends(20, 20) == pytest.approx((0.8389, 1.0), abs=1e-4)


@pytest.mark.parametrize(("share", "n"), [(0.5, 30), (0.9, 100), (0.97, 100), (0.91, 400)])
def test_wilson_covers_the_truth_as_often_as_it_says(share, n):
    counts = np.random.default_rng(1).binomial(n, share, size=4000)
    ends = [wilson_ends(k, n) for k in range(n + 1)]
    covered = np.mean([ends[k][0] <= share <= ends[k][1] for k in counts])
    assert 0.93 <= covered <= 0.98


def test_bootstrap_of_a_mean_covers_the_truth_and_matches_the_normal_interval():
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(300):
        interval = mean_interval(rng.exponential(1.0, 150), resamples=400, seed=0)
        covered += interval.ci[0] <= 1.0 <= interval.ci[1]
    assert 0.90 <= covered / 300 <= 0.98
    values = rng.normal(0.4, 0.1, 5000)
    half = Z * values.std(ddof=1) / math.sqrt(len(values))
    expected = (values.mean() - half, values.mean() + half)
    assert mean_interval(values, resamples=4000, seed=3).ci == pytest.approx(expected, abs=0.1 * half)


def test_bootstrap_repeats_with_its_seed_and_moves_with_another():
    values = np.random.default_rng(0).random(50)
    first = mean_interval(values, resamples=200, seed=5)
    assert first == mean_interval(values, resamples=200, seed=5)
    assert first.ci != mean_interval(values, resamples=200, seed=6).ci
    assert (first.resamples, first.seed) == (200, 5)


def test_rows_that_do_not_vary_get_no_interval_but_a_reason():
    interval = mean_interval(np.full(9, 0.25), resamples=100, seed=0)
    assert interval.ci is None
    assert interval.to_json() == {
        "value": 0.25,
        "ci": None,
        "method": "bootstrap",
        "resamples": 100,
        "seed": 0,
        "reason": "the rows do not vary",
    }


def test_percentiles_move_out_with_few_clusters():
    assert percentile_levels() == pytest.approx((0.025, 0.975))
    for clusters in (2, 5, 50):
        tail = norm.cdf(-math.sqrt(clusters / (clusters - 1)) * t.ppf(0.975, clusters - 1))
        assert percentile_levels(clusters) == pytest.approx((tail, 1 - tail))
    assert percentile_levels(5)[0] < percentile_levels(50)[0] < 0.025
    assert t_quantile(7) == pytest.approx(t.ppf(0.975, 7))


def test_percentiles_ignore_resamples_without_a_value():
    assert percentile_ends(np.array([np.nan, 1.0, 1.0, np.inf]), (0.025, 0.975)) == (1.0, 1.0)
    assert percentile_ends(np.array([np.nan, np.nan]), (0.025, 0.975)) is None


def test_one_cluster_says_nothing_about_another():
    interval = cluster_ratio(np.array([[8.0, 10.0]]), 0.8, resamples=100, seed=0)
    assert (interval.value, interval.ci, interval.reason) == (0.8, None, "all rows are of one group")


def _grouped_rows(rng, groups, size, spread):
    """Rows right or wrong, where a group's own rate varies around 0.8: true share 0.8."""
    rates = rng.beta(0.8 * spread, 0.2 * spread, size=groups)
    right = (rng.random((groups, size)) < rates[:, None]).astype(float)
    return right.ravel(), np.repeat(np.arange(groups), size)


def test_cluster_bootstrap_is_wider_than_wilson_and_covers_where_wilson_does_not():
    rng = np.random.default_rng(4)
    covered = {"cluster": 0, "wilson": 0}
    wider = 0
    for _ in range(200):
        right, clusters = _grouped_rows(rng, groups=25, size=20, spread=3.0)
        sums = sums_by_cluster(np.column_stack([right, np.ones_like(right)]), clusters)
        grouped = cluster_ratio(sums, right.mean(), resamples=400, seed=0).ci
        rows = wilson_ends(right.sum(), len(right))
        covered["cluster"] += grouped[0] <= 0.8 <= grouped[1]
        covered["wilson"] += rows[0] <= 0.8 <= rows[1]
        wider += grouped[1] - grouped[0] > rows[1] - rows[0]
    assert wider >= 195
    assert covered["cluster"] / 200 >= 0.90
    assert covered["wilson"] / 200 <= 0.80


def test_widened_takes_in_other_ends_and_keeps_a_missing_interval_missing():
    assert Interval(0.5, (0.4, 0.6), "x").widened((0.45, 0.7)).ci == (0.4, 0.7)
    assert Interval(0.5, (0.4, 0.6), "x").widened(None).ci == (0.4, 0.6)
    assert Interval(0.5, None, "x").widened((0.45, 0.7)).ci is None


def test_a_proportion_has_wilsons_interval_or_that_of_its_clusters():
    right, clusters = _grouped_rows(np.random.default_rng(5), groups=12, size=10, spread=2.0)
    alone = proportion(right, None, resamples=300, seed=0)
    grouped = proportion(right, clusters, resamples=300, seed=0)
    assert (alone.ci, alone.method) == (wilson_ends(right.sum(), 120), "wilson")
    assert (grouped.value, grouped.method) == (alone.value, "cluster bootstrap")
    assert grouped.ci[1] - grouped.ci[0] > alone.ci[1] - alone.ci[0]
