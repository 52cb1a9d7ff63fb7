"""Class probabilities are set right by what they should have been, and by nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import softmax

from mlxdistill.teacher.correction import (
    MOST_TEMPERATURE,
    fit_temperature,
    scaled,
    smoothed_votes,
    without_bias,
)

SHARES = arrays.arrays(np.float64, (4, 3), elements=st.floats(0.01, 1)).map(
    lambda rows: rows / rows.sum(axis=1, keepdims=True)
)


def calibrated(rows: int, labels: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Class probabilities, and gold labels drawn from them."""
    random = np.random.default_rng(seed)
    shares = softmax(random.normal(0, 2, (rows, labels)), axis=1)
    gold = (random.random((rows, 1)) > shares.cumsum(axis=1)).sum(axis=1)
    return shares, gold


def test_what_the_prompt_alone_makes_likely_is_taken_out() -> None:
    """A teacher that says `positive` to everything: 0.7 to texts without content, less to negative ones."""
    content_free = np.array([0.3, 0.7])
    shares = np.array([[0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    corrected = without_bias(shares, content_free)
    assert shares.argmax(axis=1).tolist() == [1, 1, 1]
    assert corrected.argmax(axis=1).tolist()[:2] == [0, 1]
    assert corrected[0].tolist() == pytest.approx(
        [0.4 / 0.3 / (0.4 / 0.3 + 0.6 / 0.7), 0.6 / 0.7 / (0.4 / 0.3 + 0.6 / 0.7)]
    )
    assert corrected[2].tolist() == pytest.approx([0.5, 0.5])


@settings(max_examples=50, deadline=None)
@given(SHARES, st.floats(0.1, 10))
def test_corrected_and_scaled_shares_sum_to_one(shares: np.ndarray, temperature: float) -> None:
    for changed in (without_bias(shares, shares[0]), scaled(shares, temperature), smoothed_votes(shares, 3)):
        assert changed.sum(axis=1) == pytest.approx(1.0)
        assert (changed > 0).all()
    assert scaled(shares, temperature).argmax(axis=1).tolist() == shares.argmax(axis=1).tolist()
    assert without_bias(shares, np.full(3, 1 / 3)) == pytest.approx(shares)
    assert scaled(shares, 1.0) == pytest.approx(shares)


def test_a_content_free_share_of_nothing_does_not_decide() -> None:
    corrected = without_bias(np.array([[0.999, 0.001], [1.0, 0.0]]), np.array([1.0, 0.0]))
    assert np.isfinite(corrected).all()
    assert corrected[1].tolist() == [1.0, 0.0]


def test_the_temperature_of_calibrated_shares_is_one() -> None:
    shares, gold = calibrated(6000)
    assert fit_temperature(shares, gold) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_the_factor_by_which_shares_were_sharpened_is_found(factor: float) -> None:
    shares, gold = calibrated(6000)
    assert fit_temperature(scaled(shares, 1 / factor), gold) == pytest.approx(factor, rel=0.05)


def test_no_other_temperature_fits_better() -> None:
    shares, gold = calibrated(300)
    shares = scaled(shares, 0.5)

    def loss(temperature: float) -> float:
        weight = 1 / (len(gold) + 2)
        logs = np.log(scaled(shares, temperature))
        return float(-((1 - weight) * logs[np.arange(len(gold)), gold] + weight * logs.mean(axis=1)).mean())

    found = fit_temperature(shares, gold)
    assert all(loss(found) <= loss(other) + 1e-9 for other in np.geomspace(0.05, 50, 400))


def test_rows_that_are_all_right_do_not_promise_certainty_and_rows_all_wrong_promise_nothing() -> None:
    shares = np.tile([0.9, 0.1], (20, 1))
    right = scaled(shares, fit_temperature(shares, np.zeros(20, dtype=np.int64)))
    assert 0.95 < right[0, 0] < 0.99
    wrong = scaled(shares, fit_temperature(shares, np.ones(20, dtype=np.int64)))
    assert wrong[0, 0] == pytest.approx(0.5, abs=0.02)
    assert fit_temperature(shares, np.ones(20, dtype=np.int64)) <= MOST_TEMPERATURE


def test_votes_of_few_samples_do_not_exclude_a_label() -> None:
    smoothed = smoothed_votes(np.array([[1.0, 0.0], [0.6, 0.4]]), 5)
    assert smoothed.tolist() == [pytest.approx([5.5 / 6, 0.5 / 6]), pytest.approx([3.5 / 6, 2.5 / 6])]
