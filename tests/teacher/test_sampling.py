"""Draws follow the softmax, depend on nothing but their key, and obey the grammar without changing its odds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from mlxdistill.teacher.sampling import FEW, _threshold, draw, draw_key, gumbel, noise_bits

DRAWS = 4000


class Allowing:
    """Stands in for a matcher: allows some tokens, remembers whether it was asked about all."""

    def __init__(self, allowed: set[int], *, knows: bool = False) -> None:
        self.allowed = np.array(sorted(allowed), np.int32)
        self.knows = knows
        self.asked = 0

    def known(self) -> np.ndarray | None:
        return self.allowed if self.knows else None

    def allows(self, tokens: np.ndarray) -> np.ndarray:
        self.asked += len(tokens)
        return np.isin(tokens, self.allowed)

    def every(self) -> np.ndarray:
        return self.allowed


def some_logits(count: int, seed: int = 0, spread: float = 2.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, spread, count).astype(np.float32)


def softmax(logits: np.ndarray, temperature: float) -> np.ndarray:
    weights = np.exp((logits.astype(np.float64) - logits.max()) / temperature)
    return weights / weights.sum()


def drawn(logits: np.ndarray, temperature: float, matcher: Allowing | None = None) -> np.ndarray:
    keys = [draw_key(7, f"row {number}", 0, 0) for number in range(DRAWS)]
    found = [draw(logits, temperature, key, step % 5, matcher) for step, key in enumerate(keys)]  # type: ignore[arg-type]
    return np.array(found)


def assert_follows(found: np.ndarray, expected: np.ndarray) -> None:
    counts = np.bincount(found, minlength=len(expected))
    assert counts[expected == 0].sum() == 0
    rare = expected * DRAWS < 5
    observed = np.append(counts[~rare], counts[rare].sum())
    wanted = np.append(expected[~rare], expected[rare].sum()) * DRAWS
    keep = wanted > 0
    assert chisquare(observed[keep], wanted[keep]).pvalue > 1e-3


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_draws_follow_the_softmax(temperature: float) -> None:
    logits = some_logits(300)
    assert_follows(drawn(logits, temperature), softmax(logits, temperature))


@pytest.mark.parametrize("knows", [False, True], ids=["walked", "known"])
@pytest.mark.parametrize("allowed", [{1, 5, 17, 200}, set(range(100, 290)), {3, 8}], ids=len)
def test_draws_under_a_grammar_follow_the_softmax_over_what_it_allows(allowed: set[int], knows: bool) -> None:
    logits = some_logits(300)
    expected = softmax(logits, 0.9) * np.isin(np.arange(300), list(allowed))
    found = drawn(logits, 0.9, Allowing(allowed, knows=knows))
    assert_follows(found, expected / expected.sum())


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    temperature=st.sampled_from([0.0, 1e-300, 0.3, 1.0, 5.0, 1e6]),
    spread=st.sampled_from([0.0, 0.5, 3.0, 20.0]),
    data=st.data(),
)
def test_the_walk_finds_what_the_whole_vocabulary_says(
    seed: int, temperature: float, spread: float, data: st.DataObject
) -> None:
    logits = some_logits(700, seed, spread)
    allowed = data.draw(st.sets(st.integers(0, 699), min_size=1, max_size=30))
    key = draw_key(seed, "row", 0, 0)
    values = (logits.astype(np.float64) - float(logits.max())) / (temperature or 1)
    if temperature:
        values = values + gumbel(noise_bits(key, 3, len(logits)))
    tokens = np.array(sorted(allowed))
    best = int(tokens[values[tokens].argmax()])
    assert draw(logits, temperature, key, 3) == values.argmax()
    for knows in (False, True):
        assert draw(logits, temperature, key, 3, Allowing(allowed, knows=knows)) == best  # type: ignore[arg-type]


def test_where_nothing_is_allowed_nothing_is_drawn() -> None:
    assert draw(some_logits(100), 0.0, 1, 0, Allowing(set())) is None  # type: ignore[arg-type]
    assert draw(some_logits(100), 1.0, 1, 0, Allowing(set(), knows=True)) is None  # type: ignore[arg-type]


def test_the_grammar_is_asked_about_few_tokens_where_it_allows_a_likely_one() -> None:
    logits = some_logits(5000)
    order = np.argsort(-logits)
    for temperature in (0.0, 1.0):
        for place, most in ((0, 400), (10, 3 * FEW)):
            matcher = Allowing({int(order[place])} if temperature == 0 else set(map(int, order[place:])))
            draw(logits, temperature, 1, 0, matcher)  # type: ignore[arg-type]
            assert matcher.asked <= most
    matcher = Allowing({int(order[0])})
    draw(logits, 0.0, 1, 0, matcher)  # type: ignore[arg-type]
    assert matcher.asked == 1


def test_noise_differs_with_everything_it_stands_for() -> None:
    keys = {
        (noise_bits(draw_key(seed, row, sample, attempt), step, 3).tolist()[0])
        for seed in (0, 1)
        for row in ("a", "b", "0/a")
        for sample in (0, 1)
        for attempt in (0, 1)
        for step in (0, 1)
    }
    assert len(keys) == 48
    assert (noise_bits(3, 5, 7) == noise_bits(3, 5, 9)[:7]).all()


def test_noise_is_gumbels_from_token_to_token_and_from_step_to_step() -> None:
    by_token = gumbel(noise_bits(12345, 0, 20_000))
    by_step = np.array([gumbel(noise_bits(12345, step, 8))[7] for step in range(3000)])
    for noise in (by_token, by_step):
        assert kstest(np.exp(-np.exp(-noise)), "uniform").pvalue > 1e-3
        assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 0.06


@given(st.floats(-4, 25))
def test_no_bits_below_the_threshold_make_so_much_noise(noise: float) -> None:
    threshold = int(_threshold(noise))
    if threshold:
        assert gumbel(np.array([threshold - 1]))[0] < noise
    assert gumbel(np.array([min(threshold + 8 + threshold // 10**5, 2**32 - 1)]))[0] >= min(noise, 21)
