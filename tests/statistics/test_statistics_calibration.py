import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdistill.statistics.calibration import BINS, bin_places, calibration_error


@settings(deadline=None)
@given(st.floats(0, 1))
def test_a_bin_holds_its_upper_end_and_the_first_also_zero(confidence):
    place = int(bin_places(np.array([confidence]))[0])
    assert 0 <= place < BINS
    assert place / BINS - 1e-12 <= confidence <= (place + 1) / BINS + 1e-12
    assert bin_places(np.array([0.0, 1 / 15, 1.0])).tolist() == [0, 0, 14]


def test_the_error_weighs_each_bins_gap_by_its_rows():
    confidence, right = np.array([0.95, 0.95, 0.7, 0.55]), np.array([1.0, 0.0, 1.0, 0.0])
    assert calibration_error(confidence, right) == pytest.approx((2 * 0.45 + 0.3 + 0.55) / 4)
