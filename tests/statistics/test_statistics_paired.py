import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import binom, binomtest

from mlxdistill.statistics.intervals import Z
from mlxdistill.statistics.paired import (
    cluster_difference,
    mcnemar,
    paired_difference,
    sign_flip,
    tango_ends,
)

counts = st.integers(0, 300)


@settings(deadline=None)
@given(counts, counts)
def test_mcnemar_is_the_exact_test_less_half_of_what_was_seen(a_only, b_only):
    p_value = mcnemar(a_only, b_only)
    if a_only == b_only:
        assert p_value == 1.0
        return
    fewer, pairs = min(a_only, b_only), a_only + b_only
    exact = binomtest(fewer, pairs, 0.5).pvalue
    assert p_value == pytest.approx(exact - binom.pmf(fewer, pairs, 0.5), abs=1e-9)
    assert p_value == mcnemar(b_only, a_only)


@settings(deadline=None)
@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n))))
def test_tango_interval_holds_the_difference_and_turns_with_the_systems(case):
    a_only, b_only, n = case
    if a_only + b_only > n:
        a_only = n - b_only
    low, high = tango_ends(a_only, b_only, n)
    assert -1 <= low <= (a_only - b_only) / n + 1e-12
    assert (a_only - b_only) / n - 1e-12 <= high <= 1
    assert tango_ends(b_only, a_only, n) == pytest.approx((-high, -low), abs=1e-9)


def test_tango_ends_solve_the_score_equation():
    a_only, b_only, n = 12, 25, 400

    def statistic(delta):
        # The restricted maximum-likelihood estimate, found by search instead of Tango's closed form.
        def slope(share):
            rest = n - a_only - b_only
            return a_only / (share + delta) + b_only / share - 2 * rest / (1 - 2 * share - delta)

        low, high = max(0.0, -delta) + 1e-12, (1 - delta) / 2 - 1e-12
        share = brentq(slope, low, high)
        return (a_only - b_only - n * delta) / math.sqrt(n * (2 * share + delta - delta**2))

    low, high = tango_ends(a_only, b_only, n)
    assert statistic(low) == pytest.approx(Z, abs=1e-5)
    assert statistic(high) == pytest.approx(-Z, abs=1e-5)


def test_agreeing_on_every_row_is_no_proof_of_equality():
    low, high = paired_difference(0, 0, 5).ci
    assert (low, high) == pytest.approx((-(Z**2) / (5 + Z**2), Z**2 / (5 + Z**2)))


def test_tango_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    for both, a_only, b_only in [(0.85, 0.02, 0.04), (0.6, 0.1, 0.1), (0.95, 0.0, 0.01)]:
        drawn = rng.multinomial(300, [both, a_only, b_only, 1 - both - a_only - b_only], size=1000)
        ends = [tango_ends(a, b, 300) for _, a, b, _ in drawn]
        covered = np.mean([low <= a_only - b_only <= high for low, high in ends])
        assert 0.93 <= covered <= 0.99


def test_mcnemar_raises_few_false_alarms():
    rng = np.random.default_rng(1)
    for discordant in (0.02, 0.1, 0.3):
        half = discordant / 2
        drawn = rng.multinomial(400, [1 - discordant, half, half], size=4000)
        assert np.mean([mcnemar(int(a), int(b)) < 0.05 for _, a, b in drawn]) <= 0.055


def _null_groups(rng, groups, size):
    """Differences of two equally good systems whose errors come in groups: (G, 3) a only, b only, rows."""
    lean = rng.normal(0.0, 1.0, size=(groups, 1))
    noise = rng.normal(0.0, 1.0, size=(groups, size))
    a_only, b_only = (lean + noise > 1.5).sum(axis=1), (lean + noise < -1.5).sum(axis=1)
    return np.column_stack([a_only, b_only, np.full(groups, size)]).astype(float)


def test_sign_flip_raises_few_false_alarms_where_mcnemar_raises_many():
    rng = np.random.default_rng(2)
    alarms = {"sign flip": 0, "mcnemar": 0, "few groups": 0}
    for _ in range(1000):
        sums = _null_groups(rng, groups=40, size=15)
        alarms["sign flip"] += sign_flip(sums[:, 0] - sums[:, 1], resamples=400, seed=0) < 0.05
        alarms["mcnemar"] += mcnemar(int(sums[:, 0].sum()), int(sums[:, 1].sum())) < 0.05
        few = sums[:8]
        alarms["few groups"] += sign_flip(few[:, 0] - few[:, 1], resamples=400, seed=0) < 0.05
    assert alarms["sign flip"] <= 60
    assert alarms["few groups"] <= 60
    assert alarms["mcnemar"] >= 200


@settings(deadline=None)
@given(st.lists(st.integers(-3, 3), max_size=8))
def test_sign_flip_counts_every_flip_of_few_clusters(values):
    moving = [value for value in values if value]
    flips = list(itertools.product((-1, 1), repeat=len(moving)))
    seen = abs(sum(moving))
    hits = sum(abs(sum(s * v for s, v in zip(signs, moving, strict=True))) >= seen for signs in flips)
    found = sign_flip(np.array(values, dtype=float), resamples=10, seed=0)
    assert found == pytest.approx(hits / len(flips))


def test_sign_flip_of_many_clusters_agrees_with_mcnemar_when_each_has_one_row():
    values = np.array([1.0] * 30 + [-1.0] * 14 + [0.0] * 200)
    drawn = sign_flip(values, resamples=20_000, seed=0)
    assert drawn == pytest.approx(binomtest(14, 44).pvalue, abs=0.01)


def test_cluster_difference_is_wider_than_the_rows_alone_and_covers():
    rng = np.random.default_rng(3)
    covered = wider = 0
    for _ in range(150):
        sums = _null_groups(rng, groups=30, size=15)
        interval = cluster_difference(sums, resamples=400, seed=0)
        low, high = interval.ci
        rows = tango_ends(*sums.sum(axis=0))
        covered += low <= 0 <= high
        wider += high - low > rows[1] - rows[0]
    assert interval.method == "cluster bootstrap"
    assert covered / 150 >= 0.90
    assert wider >= 140


def test_cluster_difference_never_narrower_than_the_rows_alone():
    same = np.array([[0.0, 0.0, 10.0]] * 6)
    assert cluster_difference(same, resamples=200, seed=0).ci == pytest.approx(tango_ends(0, 0, 60))
