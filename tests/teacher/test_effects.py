"""What a step did is counted on validation rows with gold, and a temperature only on those it was not fitted on."""

from __future__ import annotations

import numpy as np
import pytest

from mlxdistill.statistics.intervals import wilson
from mlxdistill.statistics.paired import paired_difference
from mlxdistill.tasks.rows import Row
from mlxdistill.teacher.effects import GoldRows, effect, gold_rows, scores, step_effects
from mlxdistill.teacher.opinions import CONTENT_FREE, SINGLE, TEMPERATURE
from mlxdistill.teacher.votes import NONE, Opinions, make_opinions

LABELS = ("a", "b")


def rows(count: int, **meta: str) -> list[Row]:
    halves = ("calibration", "selection")
    return [Row(f"r{place}", "", LABELS[place % 2], {"half": halves[place // 2 % 2], **meta}) for place in range(count)]


def gold(found: list[Row]) -> GoldRows:
    return gold_rows(found, LABELS, resamples=200, seed=0)


def sure_of(shares: list[float]) -> Opinions:
    first = np.array(shares)
    both = np.column_stack([first, 1 - first])
    return make_opinions(both.argmax(axis=1), both)


def test_only_rows_with_gold_count_and_halves_are_told_apart() -> None:
    found = gold([*rows(4), Row("x", "", None, {"half": "selection"})])
    assert [row.id for row in found.rows] == ["r0", "r1", "r2", "r3"]
    assert found.places.tolist() == [0, 1, 0, 1]
    assert found.calibration.tolist() == [True, True, False, False]


def test_scores_are_accuracy_with_its_interval_and_ece() -> None:
    found = scores(sure_of([0.9, 0.9, 0.9, 0.1]), gold(rows(4)))
    assert found["n"] == 4
    assert found["accuracy"] == wilson(3, 4).to_json()
    assert found["ece"]["value"] == pytest.approx(0.9 - 0.75)


def test_an_unparsable_answer_is_wrong_and_an_absent_one_is_not_counted() -> None:
    labels = np.array([0, NONE, NONE, 1])
    opinions = make_opinions(labels, np.zeros((4, 2)), answered=np.array([True, True, False, True]))
    found = scores(opinions, gold(rows(4)))
    assert (found["n"], found["accuracy"]["value"], found["ece"]) == (3, pytest.approx(2 / 3), None)
    nobody = make_opinions(np.full(4, NONE), np.zeros((4, 2)), answered=np.zeros(4, dtype=np.bool_))
    assert scores(nobody, gold(rows(4))) == {"n": 0, "accuracy": None, "ece": None}


def test_a_step_is_held_against_the_one_before_it() -> None:
    before, after = sure_of([0.9, 0.9, 0.9, 0.9]), sure_of([0.9, 0.1, 0.9, 0.1])
    [found] = step_effects({SINGLE: before, CONTENT_FREE: after}, gold(rows(4)))
    assert (found["step"], found["n"]) == (CONTENT_FREE, 4)
    assert found["before"]["accuracy"]["value"] == 0.5
    assert found["after"]["accuracy"]["value"] == 1.0
    assert found["difference"] == paired_difference(2, 0, 4).to_json()


def test_a_temperature_is_judged_on_the_half_that_it_was_not_fitted_on() -> None:
    before = sure_of([0.99, 0.01, 0.6, 0.6])
    after = sure_of([0.01, 0.99, 0.7, 0.4])
    [found] = step_effects({SINGLE: before, TEMPERATURE: after}, gold(rows(4)))
    assert found["n"] == 2
    assert found["before"]["accuracy"]["value"] == 0.5
    assert found["after"]["accuracy"]["value"] == 1.0
    assert found["after"]["ece"]["value"] == pytest.approx(0.35)


def test_rows_of_one_group_count_as_one_piece_of_evidence() -> None:
    alone, grouped = (
        rows(20),
        [Row(row.id, "", row.gold, {**row.meta, "group": f"g{place // 5}"}) for place, row in enumerate(rows(20))],
    )
    before, after = sure_of([0.9] * 20), sure_of([0.9, 0.1] * 5 + [0.9] * 10)
    free, tied = effect(before, after, gold(alone)), effect(before, after, gold(grouped))
    assert free["difference"]["method"] == "tango"
    assert tied["difference"]["method"] == "cluster bootstrap"
    assert tied["difference"]["value"] == free["difference"]["value"] == 0.25
    width = [entry["ci"][1] - entry["ci"][0] for entry in (free["difference"], tied["difference"])]
    assert width[1] >= width[0]


def test_rows_that_one_of_them_did_not_answer_are_left_out() -> None:
    before = sure_of([0.9, 0.1, 0.9, 0.1])
    after = make_opinions(before.labels, before.shares, answered=np.array([True, True, False, False]))
    assert effect(before, after, gold(rows(4)))["n"] == 2
