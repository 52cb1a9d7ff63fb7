from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import binom, binomtest

from mlxdistill.statistics.multiple import POWER, detectable_difference, holm
from mlxdistill.statistics.paired import mcnemar_exact


def test_holm_gives_the_textbook_values():
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm"); and a tie, and one that is cut at 1.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.5]) == [1.0, 1.0]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values):
    corrected = holm(p_values)
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    rejected = set()
    for rank, place in enumerate(order):
        if p_values[place] * (len(p_values) - rank) >= 0.05:
            break
        rejected.add(place)
    assert {place for place, p_value in enumerate(corrected) if p_value < 0.05} == rejected
    assert all(before <= after <= 1 for before, after in zip(p_values, corrected, strict=True))


@given(st.integers(0, 200), st.integers(0, 200))
def test_exact_mcnemar_is_the_binomial_test(a_only, b_only):
    pairs = a_only + b_only
    expected = binomtest(a_only, pairs, 0.5).pvalue if pairs else 1.0
    assert mcnemar_exact(a_only, b_only) == pytest.approx(expected, abs=1e-12)


def power_of(difference: float, n: int, disagreement: float, level: float) -> float:
    """The same by adding up every outcome."""
    share = max(disagreement, difference)
    total = 0.0
    for differing in range(n + 1):
        losses = np.arange(differing + 1)
        chance = binom.pmf(losses, differing, (share - difference) / (2 * share))
        found = [mcnemar_exact(differing - int(lost), int(lost)) <= level and 2 * lost < differing for lost in losses]
        total += binom.pmf(differing, n, share) * float(chance @ np.array(found))
    return total


@pytest.mark.parametrize(("n", "disagreement", "level"), [(20, 0.0, 0.05), (40, 0.3, 0.05), (60, 0.2, 0.01)])
def test_the_detectable_difference_has_the_power_it_promises(n, disagreement, level):
    difference = detectable_difference(n, disagreement, level)
    assert difference is not None
    assert power_of(difference, n, disagreement, level) == pytest.approx(POWER, abs=0.01)


def test_many_rows_agree_with_the_normal_approximation():
    n, disagreement = 5000, 0.1
    approximate = brentq(  # Connor 1987
        lambda d: 1.959964 * math.sqrt(disagreement) + 0.841621 * math.sqrt(disagreement - d**2) - d * math.sqrt(n),
        0.0,
        disagreement,
    )
    assert detectable_difference(n, disagreement, 0.05) == pytest.approx(approximate, rel=0.04)


def test_too_few_rows_can_show_nothing():
    assert detectable_difference(5, 0.4, 0.05) is None  # five of five has p = 0.0625
    assert detectable_difference(6, 0.4, 0.05) is not None
    assert detectable_difference(6, 0.4, 0.05 / 3) is None
