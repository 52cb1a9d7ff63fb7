"""What is shown while a stage runs: figures in a fixed order, and how long it will still take."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from mlxdistill.cli.console import TerminalReporter, clock, figures_line
from mlxdistill.cli.time_left import MOST_SAMPLES, TimeLeft


def test_the_time_left_follows_from_the_pace() -> None:
    left = TimeLeft()
    assert left.update(0, 100, 0.0) is None
    found = [left.update(second, 100, float(second)) for second in range(1, 51)]
    assert found[-1] == pytest.approx(50.0)


def test_what_an_earlier_command_did_is_not_speed() -> None:
    """Half was done before: at one a second the other half takes 50 seconds, not none."""
    left = TimeLeft()
    assert left.update(50, 100, 1000.0) is None
    for second in range(1, 11):
        found = left.update(50 + second, 100, 1000.0 + second)
    assert found == pytest.approx(40.0)


def test_a_slow_start_is_soon_forgotten_and_a_slower_end_soon_seen() -> None:
    left = TimeLeft()
    left.update(0, 1000, 0.0)
    left.update(1, 1000, 30.0)  # compiling
    for second in range(1, 41):
        found = left.update(1 + 10 * second, 1000, 30.0 + second)
    assert found == pytest.approx((1000 - 401) / 10, rel=0.05)
    for second in range(1, 201):
        found = left.update(401 + second, 1000, 70.0 + second)
    assert found == pytest.approx(1000 - 601, rel=0.05)


def test_long_runs_keep_few_samples() -> None:
    left = TimeLeft()
    for second in range(20_000):
        found = left.update(second, 40_000, float(second))
    assert found == pytest.approx(20_001, rel=0.01)
    assert len(left._samples) <= MOST_SAMPLES + 1


def test_a_bar_that_starts_again_forgets_the_old_pace() -> None:
    left = TimeLeft()
    for second in range(10):
        left.update(10 * second, 100, float(second))
    assert left.update(0, 100, 20.0) is None
    left.update(1, 100, 21.0)
    assert left.update(2, 100, 22.0) == pytest.approx(98.0)


def test_figures_are_written_with_their_units_the_losses_first() -> None:
    figures = {"rows_per_second": 7.66, "tokens_per_second": 12345.6, "peak_memory_gb": 1.84, "skipped": 2.0}
    figures |= {"loss": 0.41249, "valid_loss": 0.4}
    assert figures_line(figures) == "loss 0.412  validation 0.400  7.66 rows/s  12,346 tokens/s  1.8 GB  skipped 2"


@pytest.mark.parametrize(("seconds", "shown"), [(6.7, "0:07"), (725, "12:05"), (11220.2, "3:07:00"), (59.6, "1:00")])
def test_seconds_as_a_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


@pytest.mark.parametrize("width", [80, 120])
def test_the_bar_shows_what_is_done_the_time_left_and_the_figures(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    now = [0.0]
    monkeypatch.setattr("mlxdistill.cli.console.time.monotonic", lambda: now[0])
    reporter = TerminalReporter(quiet=False)
    reporter.begin("train")
    for step in range(11):
        now[0] = 60.0 * step
        reporter.advance(300 + step, 500, loss=0.4125, valid_loss=0.39, rows_per_second=7.7, peak_memory_gb=1.8)
    out = io.StringIO()
    Console(file=out, width=width).print(reporter._bar.get_renderable())
    shown = " ".join(out.getvalue().split())
    assert shown.startswith("train ")
    assert "310/500" in shown
    assert "3:10:00 left" in shown
    assert "loss 0.412 validation 0.39" in shown or "loss 0.413 validation 0.39" in shown
    assert ("1.8 GB" in shown) == (width == 120)
    assert out.getvalue().count("\n") == 1
