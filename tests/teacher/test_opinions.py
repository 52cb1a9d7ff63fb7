"""Answers become opinions and answers again, and every step of the way is what its name says."""

from __future__ import annotations

import numpy as np
import pytest

from mlxdistill.tasks.protocols import Answer
from mlxdistill.teacher.correction import scaled
from mlxdistill.teacher.opinions import (
    CONTENT_FREE,
    LABEL_ORDERS,
    SAMPLES,
    SINGLE,
    TEMPERATURE,
    Rule,
    answers_from,
    content_free_shares,
    opinions_of,
)
from mlxdistill.teacher.votes import NONE, mean

LABELS = ("ok", "toxic")


def scored(row_id: str, ok: float, **others) -> Answer:
    label = "ok" if ok >= 0.5 else "toxic"
    return Answer(row_id, label, (ok, 1 - ok), **{"seconds": 0.5, **others})


def by_id(*answers: Answer) -> dict[str, Answer]:
    return {answer.row_id: answer for answer in answers}


def test_answers_are_read_in_the_order_of_the_rows_and_absent_ones_are_silent() -> None:
    answers = by_id(
        scored("a", 0.8),
        Answer("b", "toxic"),
        Answer("c", None, outcome="unparsable", text="?"),
        Answer("d", None, outcome="missing"),
    )
    opinions = opinions_of(["d", "c", "b", "a", "e"], answers, LABELS)
    assert opinions.labels.tolist() == [NONE, NONE, 1, 0, NONE]
    assert opinions.answered.tolist() == [False, True, True, True, False]
    assert opinions.graded.tolist() == [False, False, False, True, False]
    assert opinions.shares.tolist() == [[0, 0], [0, 0], [0, 1], pytest.approx([0.8, 0.2]), [0, 0]]


def test_without_a_rule_a_single_answer_comes_back_as_it_was() -> None:
    given = by_id(scored("a", 0.75), Answer("b", "toxic", text="toxic!"), Answer("c", None, outcome="unparsable"))
    steps = Rule().steps([opinions_of(list(given), given, LABELS)])
    assert list(steps) == [SINGLE]
    assert answers_from(list(given), steps[SINGLE], [given], LABELS) == list(given.values())


def test_label_orders_are_averaged_and_say_how_far_they_agree() -> None:
    orders = [by_id(scored("a", 0.9)), by_id(scored("a", 0.4)), by_id(scored("a", 0.6, outcome="truncated"))]
    raw = [opinions_of(["a"], answers, LABELS) for answers in orders]
    steps = Rule((0, 1, 2)).steps(raw)
    assert list(steps) == [SINGLE, LABEL_ORDERS]
    [answer] = answers_from(["a"], steps[LABEL_ORDERS], orders, LABELS)
    assert (answer.label, answer.outcome, answer.seconds) == ("ok", "truncated", 1.5)
    assert answer.probabilities == pytest.approx((1.9 / 3, 1.1 / 3))
    assert answer.agreement == pytest.approx(2 / 3)


def test_samples_vote_and_the_text_is_of_the_first_that_won() -> None:
    samples = [
        by_id(Answer("a", "ok", text="it is civil")),
        by_id(Answer("a", "toxic", text="it is rude")),
        by_id(Answer("a", None, outcome="unparsable", text="hm")),
        by_id(Answer("a", "toxic", text="an insult")),
    ]
    raw = [opinions_of(["a"], answers, LABELS) for answers in samples]
    steps = Rule((0, 1, 2, 3), votes=True).steps(raw)
    [answer] = answers_from(["a"], steps[SAMPLES], samples, LABELS)
    assert (answer.label, answer.text, answer.outcome) == ("toxic", "it is rude", "answered")
    assert answer.probabilities == pytest.approx((1 / 3, 2 / 3))
    assert answer.agreement == 0.5


def test_a_row_whose_every_sample_is_unparsable_stays_unparsable_and_an_unasked_one_absent() -> None:
    samples = [by_id(Answer("a", None, outcome="unparsable")), by_id(Answer("a", None, outcome="unparsable"))]
    raw = [opinions_of(["a", "b"], answers, LABELS) for answers in samples]
    found = answers_from(["a", "b"], Rule((0, 1), votes=True).steps(raw)[SAMPLES], samples, LABELS)
    assert [(answer.row_id, answer.label, answer.outcome, answer.probabilities) for answer in found] == [
        ("a", None, "unparsable", None)
    ]


def test_each_order_is_corrected_by_its_own_content_free_probabilities_before_the_average() -> None:
    free = [by_id(scored("x", 0.7), scored("y", 0.9)), by_id(scored("x", 0.2), scored("y", 0.2))]
    references = tuple(content_free_shares(opinions_of(["x", "y"], answers, LABELS)) for answers in free)
    assert references[0].tolist() == pytest.approx([0.8, 0.2])
    orders = [by_id(scored("a", 0.7)), by_id(scored("a", 0.3))]
    steps = Rule((0, 3), content_free=references).steps([opinions_of(["a"], answers, LABELS) for answers in orders])
    assert list(steps) == [SINGLE, CONTENT_FREE, LABEL_ORDERS]
    first = 0.7 / 0.8 / (0.7 / 0.8 + 0.3 / 0.2)
    second = 0.3 / 0.2 / (0.3 / 0.2 + 0.7 / 0.8)
    assert steps[CONTENT_FREE].shares[0, 0] == pytest.approx(first)
    assert (steps[SINGLE].labels.tolist(), steps[CONTENT_FREE].labels.tolist()) == ([0], [1])
    assert steps[LABEL_ORDERS].shares[0, 0] == pytest.approx((first + second) / 2)


def test_a_temperature_comes_last_and_moves_no_label() -> None:
    orders = [by_id(scored("a", 0.9), Answer("b", "toxic")), by_id(scored("a", 0.7), Answer("b", "toxic"))]
    raw = [opinions_of(["a", "b"], answers, LABELS) for answers in orders]
    steps = Rule((0, 1), temperature=2.0).steps(raw)
    assert list(steps)[-1] == TEMPERATURE
    assert steps[TEMPERATURE].shares[0] == pytest.approx(scaled(np.array([[0.8, 0.2]]), 2.0)[0])
    assert steps[TEMPERATURE].labels.tolist() == steps[LABEL_ORDERS].labels.tolist()


def test_a_bare_label_is_not_scaled() -> None:
    given = by_id(Answer("b", "toxic"))
    steps = Rule(temperature=3.0).steps([opinions_of(["b"], given, LABELS)])
    assert steps[TEMPERATURE].shares.tolist() == [[0.0, 1.0]]
    assert answers_from(["b"], steps[TEMPERATURE], [given], LABELS)[0].probabilities is None


def test_unanimous_votes_are_scaled_as_the_few_votes_they_are() -> None:
    samples = [by_id(Answer("a", "ok")), by_id(Answer("a", "ok"))]
    rule = Rule((0, 1), votes=True, temperature=1.0)
    steps = rule.steps([opinions_of(["a"], answers, LABELS) for answers in samples])
    assert steps[SAMPLES].shares[0].tolist() == [1.0, 0.0]
    assert steps[TEMPERATURE].shares[0].tolist() == pytest.approx([2.5 / 3, 0.5 / 3])


def test_what_was_copied_by_all_stays_marked_as_copied() -> None:
    members = [by_id(scored("a", 0.9, copied_from="z")), by_id(scored("a", 0.8, copied_from="z"))]
    joined = mean([opinions_of(["a"], answers, LABELS) for answers in members])
    assert answers_from(["a"], joined, members, LABELS)[0].copied_from == "z"
    members[1] = by_id(scored("a", 0.8))
    assert answers_from(["a"], joined, members, LABELS)[0].copied_from is None


def test_no_rows_at_all_are_no_mistake() -> None:
    empty = opinions_of([], {}, LABELS)
    rule = Rule((0, 1), content_free=(np.array([0.5, 0.5]),) * 2, temperature=2.0)
    assert all(len(opinions) == 0 for opinions in rule.steps([empty, empty]).values())
    voted = Rule((0, 1), votes=True, temperature=2.0).steps([empty, empty])
    assert answers_from([], voted[TEMPERATURE], [{}, {}], LABELS) == []
