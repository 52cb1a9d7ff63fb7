import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdistill.statistics.paired import tango_ends
from mlxdistill.statistics.shares import NEAR_CHANCE, paired_shares


def shares_of(counts, clusters=None, resamples=400, seed=0):
    """From counts (C, 4) of both, only first, only second, neither right; one class is accuracy."""
    counts = np.atleast_2d(counts).astype(np.int64)
    cells = np.concatenate([np.repeat(np.eye(4), of_class, axis=0) for of_class in counts])
    classes = None if len(counts) == 1 else np.repeat(np.arange(len(counts)), counts.sum(axis=1))
    return paired_shares(cells, classes, clusters, resamples=resamples, seed=seed)


def test_paired_ratio_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(5)
    shares = np.array([0.82, 0.04, 0.07, 0.07])
    truth = (shares[0] + shares[1]) / (shares[0] + shares[2])
    covered = 0
    for cells in rng.multinomial(200, shares, size=400):
        low, high = shares_of(cells).ratio().ci
        covered += low <= truth <= high
    assert 0.92 <= covered / 400 <= 0.99


@settings(deadline=None)
@given(st.tuples(*[st.integers(0, 6)] * 4).filter(lambda cells: cells[0] + cells[2] > 0))
def test_paired_ratio_of_a_handful_of_rows_is_finite_and_holds_its_value(cells):
    both, a_only, b_only, _ = cells
    interval = shares_of(cells, resamples=100).ratio()
    assert interval.value == pytest.approx((both + a_only) / (both + b_only))
    assert 0 <= interval.ci[0] <= interval.value <= interval.ci[1] < math.inf


def test_agreeing_on_every_row_is_no_proof_of_equality():
    assert shares_of([5, 0, 0, 0]).ratio().ci[0] < 0.8
    low, high = shares_of([[200, 0, 0, 0], [20, 0, 0, 0]], resamples=2000).difference().ci
    assert low < -0.02
    assert high > 0.02


def test_balanced_shares_count_every_class_the_same():
    shares = shares_of([[150, 20, 10, 20], [8, 2, 6, 4]])
    assert shares.seen == pytest.approx([(170 / 200 + 10 / 20) / 2, (160 / 200 + 14 / 20) / 2])
    assert shares.difference().value == pytest.approx((10 / 200 - 4 / 20) / 2)
    assert shares.difference().method == "stratified paired bootstrap"
    same = shares_of([[40, 3, 5, 2], [40, 3, 5, 2]]).difference()
    assert same.value == pytest.approx(shares_of([80, 6, 10, 4]).difference().value)


def test_accuracy_difference_has_about_the_width_of_tangos():
    low, high = shares_of([850, 30, 50, 70], resamples=4000).difference().ci
    assert (low, high) == pytest.approx(tango_ends(30, 50, 1000), abs=0.002)


def test_balanced_difference_covers_the_truth_where_a_class_is_small():
    """As in a log that has 200 rows of one class and 20 of the other."""
    rng = np.random.default_rng(7)
    shares = np.array([[0.82, 0.05, 0.1, 0.03], [0.5, 0.1, 0.3, 0.1]])
    truth = ((0.05 - 0.1) + (0.1 - 0.3)) / 2
    covered = 0
    for _ in range(400):
        counts = [rng.multinomial(n, p) for n, p in zip((200, 20), shares, strict=True)]
        low, high = shares_of(counts).difference().ci
        covered += low <= truth <= high
    assert 0.92 <= covered / 400 <= 0.99


@pytest.mark.parametrize("chance", [0.5, 0.7])
def test_ratio_above_chance_covers_the_truth_and_is_wider_than_the_ratio(chance):
    rng = np.random.default_rng(8)
    cells = np.array([0.82, 0.04, 0.07, 0.07])
    truth = (cells[0] + cells[1] - chance) / (cells[0] + cells[2] - chance)
    covered = 0
    for counts in rng.multinomial(200, cells, size=400):
        shares = shares_of(counts)
        interval = shares.ratio_above(chance)
        a, b = shares.seen
        assert interval.value == pytest.approx((a - chance) / (b - chance))
        covered += interval.ci[0] <= truth <= interval.ci[1]
    assert 0.92 <= covered / 400 <= 0.99
    ratio = shares.ratio()
    assert interval.ci[1] - interval.ci[0] > ratio.ci[1] - ratio.ci[0]


def test_ratio_above_chance_has_no_interval_where_the_second_may_be_at_chance():
    interval = shares_of([10, 3, 2, 7]).ratio_above(0.5)
    assert interval.value == pytest.approx((13 - 11) / (12 - 11))
    assert (interval.ci, interval.reason) == (None, NEAR_CHANCE)


@pytest.mark.parametrize("classes", [1, 2])
def test_shares_of_clusters_are_wider_than_those_of_the_rows_alone(classes):
    rng = np.random.default_rng(6)
    rates = rng.dirichlet([4.0, 0.3, 0.3, 0.4], size=20)
    cells = np.concatenate([np.repeat(np.eye(4), rng.multinomial(30, share), axis=0) for share in rates])
    clusters = np.repeat(np.arange(20), 30)
    places = None if classes == 1 else rng.integers(0, 2, size=600)
    rows = paired_shares(cells, places, None, resamples=500, seed=0)
    grouped = paired_shares(cells, places, clusters, resamples=500, seed=0)
    for measure in ("ratio", "difference"):
        alone, together = getattr(rows, measure)(), getattr(grouped, measure)()
        assert together.value == alone.value
        assert together.method == "cluster bootstrap"
        assert together.ci[1] - together.ci[0] > 1.2 * (alone.ci[1] - alone.ci[0])
    above = grouped.ratio_above(0.2)
    assert above.ci[0] < above.value < above.ci[1]


def test_balanced_difference_of_clusters_covers_the_truth():
    """Clusters whose rows are mostly of one class, and lean to one system together; neither system is better."""
    rng = np.random.default_rng(9)
    covered = 0
    for _ in range(200):
        lean = np.repeat(rng.normal(0.0, 1.0, size=30), 12)
        noise = rng.normal(0.0, 1.0, size=360)
        classes = (rng.random(360) < np.repeat(rng.choice([0.1, 0.6], size=30), 12)).astype(np.int64)
        kind = np.where(lean + noise > 1.5, 1, np.where(lean + noise < -1.5, 2, 0))
        shares = paired_shares(np.eye(4)[kind], classes, np.repeat(np.arange(30), 12), resamples=300, seed=0)
        low, high = shares.difference().ci
        covered += low <= 0 <= high
    assert covered / 200 >= 0.91


def test_a_class_missing_from_some_resamples_is_left_out_of_their_mean():
    cells = np.eye(4)[[0] * 12 + [2] * 2]
    classes = np.array([0] * 12 + [1] * 2)
    clusters = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4])
    interval = paired_shares(cells, classes, clusters, resamples=300, seed=0).difference()
    assert interval.value == pytest.approx(-0.5)
    assert interval.ci[1] >= 0


def test_one_cluster_has_values_but_no_intervals():
    shares = shares_of([10, 2, 1, 3], clusters=np.zeros(16, np.int64))
    for interval in (shares.difference(), shares.ratio(), shares.ratio_above(0.2)):
        assert (interval.ci, interval.reason) == (None, "all rows are of one group")
