"""Who is right how often is learned from who agrees with whom."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mlxdistill.teacher import dawid_skene
from mlxdistill.teacher.dawid_skene import DawidSkene, fit_dawid_skene
from mlxdistill.teacher.votes import NONE, vote_shares

PRIOR = np.array([0.5, 0.3, 0.2])
GOOD = np.array([[0.95, 0.03, 0.02], [0.04, 0.94, 0.02], [0.03, 0.05, 0.92]])
POOR = np.array([[0.55, 0.25, 0.2], [0.3, 0.5, 0.2], [0.25, 0.3, 0.45]])
# Takes the second label for the first, systematically.
BIASED = np.array([[0.9, 0.05, 0.05], [0.6, 0.35, 0.05], [0.1, 0.1, 0.8]])
CONFUSIONS = np.stack([GOOD, POOR, BIASED, POOR])


def simulate(rows: int, confusions: np.ndarray, missing: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.choice(len(PRIOR), size=rows, p=PRIOR)
    draws = random.random((rows, len(confusions), 1))
    votes = (draws > confusions[:, truth].transpose(1, 0, 2).cumsum(axis=2)).sum(axis=2)
    votes[random.random(votes.shape) < missing] = NONE
    return truth, votes


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_it_recovers_confusion_matrices_and_beats_the_majority(missing: float) -> None:
    truth, votes = simulate(20_000, CONFUSIONS, missing)
    model = fit_dawid_skene(votes, 3)
    assert model.converged
    assert model.prior == pytest.approx(PRIOR, abs=0.03)
    assert model.confusion == pytest.approx(CONFUSIONS, abs=0.05)
    assert [model.reliability(place) for place in range(4)] == pytest.approx(
        [float(PRIOR @ np.diagonal(matrix)) for matrix in CONFUSIONS], abs=0.03
    )
    voted = (votes != NONE).any(axis=1)
    believed = (model.class_probabilities(votes).argmax(axis=1) == truth)[voted].mean()
    counted = (vote_shares(votes, 3).argmax(axis=1) == truth)[voted].mean()
    assert believed > counted + 0.03


def test_its_class_probabilities_are_calibrated_where_the_model_is_true() -> None:
    truth, votes = simulate(20_000, CONFUSIONS)
    shares = fit_dawid_skene(votes, 3).class_probabilities(votes)
    assert shares.sum(axis=1) == pytest.approx(1.0)
    unsure = (shares.max(axis=1) > 0.6) & (shares.max(axis=1) < 0.8)
    right = (shares.argmax(axis=1) == truth)[unsure].mean()
    assert right == pytest.approx(shares.max(axis=1)[unsure].mean(), abs=0.05)


def test_one_round_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Votes of two teachers on four rows: 00, 00, 11, 01. Each class has half a row's smoothing for each label."""
    monkeypatch.setattr(dawid_skene, "MOST_ITERATIONS", 0)
    votes = np.array([[0, 0], [0, 0], [1, 1], [0, 1]])
    model = fit_dawid_skene(votes, 2)
    half = Fraction(1, 2)
    # Rows' shares of class 0 at the start: 1, 1, 0, 1/2.
    assert model.prior.tolist() == pytest.approx([(2.5 + 0.5) / 5, (1.5 + 0.5) / 5])
    first = [[Fraction(5, 2) + half, half], [half + half, 1 + half]]  # the first teacher: 0 on rows 1, 2 and 4
    second = [[2 + half, half + half], [half, Fraction(3, 2) + half]]
    for place, counts in enumerate((first, second)):
        wanted = [[float(count / sum(row)) for count in row] for row in counts]
        assert model.confusion[place] == pytest.approx(np.array(wanted))
    # Of the row where they disagree: 3/5 * 6/7 * 2/7 against 2/5 * 2/5 * 4/5.
    zero, one = Fraction(3, 5) * Fraction(6, 7) * Fraction(2, 7), Fraction(2, 5) * Fraction(2, 5) * Fraction(4, 5)
    believed = model.class_probabilities(np.array([[0, 1]]))[0]
    assert believed.tolist() == pytest.approx([float(zero / (zero + one)), float(one / (zero + one))])


@settings(max_examples=40, deadline=None)
@given(
    arrays.arrays(np.int64, st.tuples(st.integers(1, 12), st.integers(1, 4)), elements=st.integers(NONE, 2)),
    st.randoms(),
)
def test_the_objective_never_falls_and_nothing_depends_on_order(votes: np.ndarray, random) -> None:
    model = fit_dawid_skene(votes, 3)
    assert all(after >= before - 1e-9 for before, after in zip(model.objectives, model.objectives[1:], strict=False))
    assert model.confusion.sum(axis=2) == pytest.approx(1.0)
    assert (model.confusion > 0).all()
    order = random.sample(range(votes.shape[1]), votes.shape[1])
    again = fit_dawid_skene(votes[:, order], 3)
    assert again.confusion == pytest.approx(model.confusion[order], abs=1e-3)
    assert again.class_probabilities(votes[:, order]) == pytest.approx(model.class_probabilities(votes), abs=1e-3)


def test_equal_votes_may_be_counted_instead_of_listed() -> None:
    _, votes = simulate(500, CONFUSIONS, missing=0.2)
    patterns, counts = np.unique(votes, axis=0, return_counts=True)
    listed, counted = fit_dawid_skene(votes, 3), fit_dawid_skene(patterns, 3, counts)
    assert counted.confusion == pytest.approx(listed.confusion, abs=1e-6)
    assert len(patterns) < len(votes)


def test_teachers_who_always_agree_are_taken_at_their_word() -> None:
    votes = np.repeat(np.array([[0] * 3, [1] * 3, [2] * 3]), 50, axis=0)
    shares = fit_dawid_skene(votes, 3).class_probabilities(votes)
    assert shares.argmax(axis=1).tolist() == votes[:, 0].tolist()
    assert shares.max(axis=1).min() > 0.99


def test_rows_without_a_vote_have_no_opinion_and_teach_nothing() -> None:
    votes = np.array([[0, 0, 0], [1, 1, 0], [NONE, NONE, NONE]])
    model = fit_dawid_skene(votes, 2)
    assert model.class_probabilities(votes)[2].tolist() == [0.0, 0.0]
    assert np.array_equal(model.confusion, fit_dawid_skene(votes[:2], 2).confusion)
    assert model.rows.sum(axis=1).tolist() == pytest.approx([2.0] * 3)
    nothing = fit_dawid_skene(votes[2:], 2)
    assert [nothing.reliability(place) for place in range(3)] == [None] * 3
    assert nothing.converged
    assert nothing.prior.tolist() == [0.5, 0.5]


def test_what_no_vote_speaks_of_is_not_known() -> None:
    """The last teacher named nothing, the third only rows of the first class, and no row is of the last class."""
    votes = np.array([[0, 0, 0, NONE]] * 30 + [[1, 1, NONE, NONE]] * 20)
    model = fit_dawid_skene(votes, 3)
    assert model.seen.tolist() == [[True, True, False], [True, True, False], [True, False, False], [False] * 3]
    assert model.rows == pytest.approx(np.array([[30, 20, 0], [30, 20, 0], [30, 0, 0], [0, 0, 0]]), abs=0.1)
    assert model.reliability(3) is None
    assert model.reliability(0) == pytest.approx(1.0, abs=0.05)
    counted = fit_dawid_skene(np.unique(votes, axis=0), 3, np.array([30, 20]))
    assert counted.rows == pytest.approx(model.rows)


def test_many_teachers_and_labels_do_not_underflow() -> None:
    labels, teachers = 150, 60
    prior, matrix = np.full(labels, 1 / labels), np.full((labels, labels), 1e-9)
    matrix[np.arange(labels), np.arange(labels)] = 1 - 1e-9 * (labels - 1)
    model = DawidSkene(prior, np.stack([matrix] * teachers), np.ones((teachers, labels)), 1, (), True)
    votes = np.array([[0] * (teachers // 2) + [1] * (teachers - teachers // 2)])
    shares = model.class_probabilities(votes)[0]
    assert shares[:2].tolist() == pytest.approx([0.5, 0.5])
    assert math.isfinite(shares.sum())
