import pytest

from mlxdistill.statistics.written import decimal, signed


@pytest.mark.parametrize(
    ("value", "plain", "with_sign"),
    [
        (0, "0.0", "0.0"),
        (-0.04, "0.0", "0.0"),
        (0.04, "0.0", "0.0"),
        (-1.25, "−1.2", "−1.2"),
        (1234.5, "1,234.5", "+1,234.5"),
    ],
)
def test_zero_has_no_sign_and_minus_is_not_a_hyphen(value, plain, with_sign):
    assert (decimal(value), signed(value)) == (plain, with_sign)
