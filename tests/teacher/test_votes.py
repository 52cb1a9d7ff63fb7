"""Several opinions become one, the same whoever is asked first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mlxdistill.teacher.votes import NONE, Opinions, agreement, majority, make_opinions, mean

LABELS = 3


def sure(*labels: int) -> Opinions:
    """Opinions of bare labels."""
    return make_opinions(np.array(labels), np.zeros((len(labels), LABELS)))


def graded(*shares: tuple[float, ...]) -> Opinions:
    rows = np.array(shares, dtype=np.float64)
    return make_opinions(rows.argmax(axis=1), rows)


@st.composite
def panels(draw: st.DrawFn) -> list[Opinions]:
    """Two to five voters about the same rows; some are sure, some graded, some without an answer."""
    rows = draw(st.integers(1, 6))
    members = []
    for _ in range(draw(st.integers(2, 5))):
        shares = draw(arrays.arrays(np.float64, (rows, LABELS), elements=st.integers(1, 8).map(float)))
        shares /= shares.sum(axis=1, keepdims=True)
        named = draw(arrays.arrays(np.bool_, rows))
        answered = named | draw(arrays.arrays(np.bool_, rows))
        bare = draw(arrays.arrays(np.bool_, rows))
        labels = np.where(named, shares.argmax(axis=1), NONE)
        members.append(make_opinions(labels, np.where(bare[:, None], 0.0, shares), answered=answered))
    return members


def same(a: Opinions, b: Opinions) -> None:
    for name in ("labels", "shares", "answered", "agreement"):
        assert np.array_equal(getattr(a, name), getattr(b, name), equal_nan=name == "agreement"), name


@settings(max_examples=80, deadline=None)
@given(panels(), st.randoms(), st.sampled_from([mean, majority]))
def test_the_order_of_the_voters_changes_nothing(members: list[Opinions], random, combine) -> None:
    shuffled = random.sample(members, len(members))
    same(combine(members), combine(shuffled))


@settings(max_examples=80, deadline=None)
@given(panels(), st.sampled_from([mean, majority]))
def test_shares_sum_to_one_where_anybody_named_a_label_and_only_there(members: list[Opinions], combine) -> None:
    found = combine(members)
    named = np.logical_or.reduce([member.labels != NONE for member in members])
    assert np.array_equal(found.labels != NONE, named)
    assert found.shares.sum(axis=1) == pytest.approx(named.astype(float))
    assert (found.shares[named, found.labels[named]] > 0).all()
    assert np.array_equal(found.answered, np.logical_or.reduce([member.answered for member in members]))


@settings(max_examples=80, deadline=None)
@given(panels(), st.integers(2, 4), st.sampled_from([mean, majority]))
def test_of_voters_who_think_alike_comes_what_each_thinks(members: list[Opinions], count: int, combine) -> None:
    one = members[0]
    found = combine([one] * count)
    assert np.array_equal(found.labels, one.labels)
    named = one.labels != NONE
    assert found.agreement[named] == pytest.approx(1.0)
    if combine is mean:
        assert found.shares == pytest.approx(one.shares)


def test_the_mean_takes_a_bare_label_for_certainty() -> None:
    found = mean([graded((0.1, 0.2, 0.7)), sure(0)])
    assert found.shares[0] == pytest.approx([0.55, 0.1, 0.35])
    assert found.labels.tolist() == [0]
    assert found.agreement.tolist() == [0.5]


def test_who_gave_no_usable_answer_does_not_vote_but_does_not_agree_either() -> None:
    silent = make_opinions(np.array([NONE]), np.zeros((1, LABELS)), answered=np.array([False]))
    unparsable = sure(NONE)
    for combine in (mean, majority):
        found = combine([sure(2), silent, unparsable])
        assert found.labels.tolist() == [2]
        assert found.shares[0].tolist() == [0.0, 0.0, 1.0]
        assert found.agreement.tolist() == [0.5]
        nobody = combine([silent, silent])
        assert (nobody.labels.tolist(), nobody.answered.tolist()) == ([NONE], [False])
        assert np.isnan(nobody.agreement).all()


def test_the_majority_counts_heads_and_the_mean_does_not() -> None:
    members = [graded((0.0, 0.49, 0.51)), graded((0.0, 0.49, 0.51)), sure(1)]
    assert majority(members).labels.tolist() == [2]
    assert majority(members).shares[0] == pytest.approx([0, 1 / 3, 2 / 3])
    assert majority(members).agreement[0] == pytest.approx(2 / 3)
    assert mean(members).labels.tolist() == [1]


def test_a_tie_goes_to_the_surer_side_and_then_to_the_tasks_first_label() -> None:
    assert majority([graded((0.6, 0.4, 0.0)), graded((0.0, 0.1, 0.9))]).labels.tolist() == [2]
    assert majority([sure(2), sure(1)]).labels.tolist() == [1]
    # The third label has the greatest mean probability and is nobody's choice: it is no side of the tie.
    tied = majority([graded((0.51, 0.0, 0.49)), graded((0.0, 0.51, 0.49))])
    assert tied.labels.tolist() == [0]
    assert mean([sure(2), sure(1)]).labels.tolist() == [1]


def test_agreement_is_the_share_of_answers_that_name_the_label() -> None:
    members = [sure(0, 1), sure(0, 2), sure(1, NONE)]
    assert agreement(members, np.array([0, 1])).tolist() == pytest.approx([2 / 3, 1 / 3])
