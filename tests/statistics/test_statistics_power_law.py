"""A power law through errors: found where it is planted, never rising, never below 0."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from mlxdistill.statistics.power_law import EXPONENTS, fit_power_law

ROWS = np.array([200.0, 400.0, 1000.0, 2000.0, 4000.0])


@pytest.mark.parametrize(("floor", "scale", "exponent"), [(0.1, 0.3, 0.5), (0.0, 0.5, 0.25), (0.2, 0.0, 1.0)])
def test_a_planted_law_is_found(floor: float, scale: float, exponent: float) -> None:
    errors = floor + scale * (ROWS / 200) ** -exponent
    fit = fit_power_law(ROWS, errors[None], np.ones(5))
    assert fit.at(8000)[0] == pytest.approx(floor + scale * 40**-exponent, abs=1e-9)
    assert fit.at(200)[0] == pytest.approx(errors[0], abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=5, max_size=5), st.lists(st.floats(0.1, 10), min_size=5, max_size=5))
def test_it_is_the_least_squares_of_all_that_fall(errors: list[float], weights: list[float]) -> None:
    seen, weigh = np.array(errors), np.array(weights)
    fit = fit_power_law(ROWS, seen[None], weigh)
    assert fit.floor[0] >= 0
    assert fit.scale[0] >= 0
    rest = float((weigh * (np.array([fit.at(rows)[0] for rows in ROWS]) - seen) ** 2).sum())
    roots = np.sqrt(weigh)
    best = min(
        nnls(np.column_stack([roots, roots * (ROWS / 200) ** -exponent]), roots * seen)[1] ** 2
        for exponent in EXPONENTS
    )
    assert rest == pytest.approx(best, abs=1e-9)


def test_many_curves_are_fitted_as_each_alone() -> None:
    rng = np.random.default_rng(1)
    errors = rng.uniform(0, 0.5, (20, 5))
    weights = rng.uniform(0.5, 2, 5)
    together = fit_power_law(ROWS, errors, weights).at(8000)
    alone = [fit_power_law(ROWS, each[None], weights).at(8000)[0] for each in errors]
    assert together == pytest.approx(alone)
