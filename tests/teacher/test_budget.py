"""A budget finds what is rare, always the same rows, and never more than it may."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdistill.teacher.budget import Chooser, draw_pilot, pilot_rows, round_rows

COMMON = ["parcel", "delivery", "address", "street", "morning", "courier", "doorbell", "signature"]
RARE = ["stolen", "thief", "police", "fraud", "card", "blocked", "wallet", "robbed"]


def pool(rows: int, rare_share: float = 0.05) -> tuple[list[str], list[str]]:
    chance = random.Random(4)
    texts, labels = [], []
    for number in range(rows):
        label = "rare" if chance.random() < rare_share else "common"
        words = chance.choices(RARE if label == "rare" else COMMON, k=4) + chance.choices(
            ["please", "help", "now"], k=3
        )
        texts.append(" ".join(words) + f" {number}")
        labels.append(label)
    return texts, labels


def spent(texts: list[str], labels: list[str], budget: int, seed: int = 0) -> list[int]:
    places = draw_pilot(len(texts), budget, seed)
    chooser = Chooser(texts, seed)
    while len(places) < budget:
        known = {place: labels[place] for place in places}
        places += chooser.next(known, round_rows(len(places), budget))
    return places


def test_rare_rows_are_found_and_labels_become_more_equal() -> None:
    texts, labels = pool(1500)
    places = spent(texts, labels, 200)
    assert len(set(places)) == 200
    counts = Counter(labels[place] for place in places)
    assert counts["rare"] > 0.8 * labels.count("rare")
    assert counts["common"] > 80


def test_the_same_seed_gives_the_same_rows_and_another_seed_others() -> None:
    texts, labels = pool(600)
    assert spent(texts, labels, 120) == spent(texts, labels, 120)
    assert spent(texts, labels, 120) != spent(texts, labels, 120, seed=1)


def test_going_on_after_a_stop_gives_the_same_rows() -> None:
    texts, labels = pool(800)
    whole = spent(texts, labels, 400)
    pilot = draw_pilot(len(texts), 400, 0)
    again = Chooser(texts, 0).next({place: labels[place] for place in reversed(pilot)}, round_rows(len(pilot), 400))
    assert whole[: len(pilot) + len(again)] == pilot + again


@given(st.integers(1, 5000))
def test_pilot_and_rounds_use_up_the_budget_and_no_more(budget: int) -> None:
    used = pilot_rows(budget)
    assert 0 < used <= budget
    rounds = 0
    while used < budget:
        more = round_rows(used, budget)
        assert more > 0
        used += more
        rounds += 1
    assert used == budget
    assert rounds <= 4


@pytest.mark.parametrize(
    "labels", [["a"] * 6, [None] * 6, ["a", "b", None, None, "a", "a"]], ids=["one label", "no label", "few labels"]
)
def test_few_answers_still_give_as_many_rows_as_were_asked_for(labels: list[str | None]) -> None:
    texts = [f"text number {number} of many" for number in range(40)]
    chosen = Chooser(texts, 0).next(dict(enumerate(labels)), 20)
    assert len(set(chosen)) == 20
    assert not set(chosen) & set(range(6))


def test_texts_without_words_and_more_rows_than_there_are() -> None:
    texts = ["...", "!!", "", "?"]
    assert sorted(Chooser(texts, 0).next({0: "a", 1: "b"}, 1)) in ([2], [3])
    assert sorted(Chooser(texts, 0).next({0: "a", 1: "b"}, 50)) == [2, 3]
