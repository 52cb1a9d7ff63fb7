"""The learning rate: up in a straight line, then down as configured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdistill.config.models import TrainConfig
from mlxdistill.student.schedule import learning_rate

SCHEDULES = ("cosine", "linear", "constant")


def rates(schedule: str, total: int, warmup: float) -> list[float]:
    config = TrainConfig(learning_rate=2.0, schedule=schedule, warmup=warmup)  # type: ignore[arg-type]
    return [learning_rate(config, step, total) for step in range(total)]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("cosine", [1.0, 2.0, 2.0, 1.7071, 1.0, 0.2929]),
        ("linear", [1.0, 2.0, 2.0, 1.5, 1.0, 0.5]),
        ("constant", [1.0, 2.0, 2.0, 2.0, 2.0, 2.0]),
    ],
)
def test_the_rate_of_each_step(schedule: str, expected: list[float]) -> None:
    assert rates(schedule, 6, 0.25) == pytest.approx(expected, abs=1e-4)


@given(st.sampled_from(SCHEDULES), st.integers(1, 300), st.floats(0, 0.99))
def test_it_rises_to_the_configured_rate_and_never_again(schedule: str, total: int, warmup: float) -> None:
    found = rates(schedule, total, warmup)
    top = found.index(max(found))
    assert max(found) == pytest.approx(2.0)
    assert min(found) > 0
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)
    assert found[0] == pytest.approx(2.0 / max(1, top + 1))


def test_without_a_warm_up_the_first_step_has_the_whole_rate() -> None:
    assert [rates(schedule, 4, 0.0)[0] for schedule in SCHEDULES] == [2.0, 2.0, 2.0]
