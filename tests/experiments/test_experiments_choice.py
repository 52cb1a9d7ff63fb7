"""A recommendation follows what the rows can prove, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from mlxdistill.evaluation.records import Record
from mlxdistill.evaluation.scores import Resampling
from mlxdistill.experiments.choice import Choice, Entrant, choose
from mlxdistill.experiments.sentences import caveats, recommendation_sentence, verdict

LABELS = ("ok", "toxic")
RESAMPLING = Resampling(200, 0)
MARGIN = 0.05


def entrant(
    name: str,
    right: Sequence[bool | None],
    *,
    teacher: str = "teacher",
    configured: bool = False,
    speed: float | None = None,
    groups: Sequence[str] | None = None,
) -> Entrant:
    """A candidate that has these rows right; None: not answered. The gold label of every row is `ok`."""
    records = {
        f"r{row:04}": Record(
            f"r{row:04}", "valid", name, "ok" if good else "toxic", None, "ok", groups[row] if groups else None
        )
        for row, good in enumerate(right)
        if good is not None
    }
    return Entrant(name, teacher, configured, records, speed)


def chosen(*entrants: Entrant, rows: int) -> Choice:
    return choose(entrants, {f"r{row:04}": "ok" for row in range(rows)}, LABELS, RESAMPLING, MARGIN)


def split(both: int, first: int, second: int, neither: int = 0) -> tuple[list[bool], list[bool]]:
    """Two candidates that are right on so many rows together, alone, and on none."""
    a = [True] * both + [True] * first + [False] * second + [False] * neither
    b = [True] * both + [False] * first + [True] * second + [False] * neither
    return a, b


def simulated(random: np.random.Generator, candidates: int, rows: int, better: float = 0.0) -> list[Entrant]:
    """Candidates that find the same rows hard, all equally good but the last, which is better by so much."""
    hardness = random.beta(4, 1, rows)
    found = []
    for place in range(candidates):
        chance = np.minimum(hardness + (better if place == candidates - 1 else 0.0), 1.0)
        found.append(entrant(f"p{place}", list(random.random(rows) < chance), configured=place == 0))
    return found


def test_equally_good_candidates_rarely_replace_the_configured_one() -> None:
    random = np.random.default_rng(1)
    runs, rows, left, looked_best, called_worse = 300, 120, 0, 0, 0
    for _ in range(runs):
        choice = chosen(*simulated(random, 5, rows), rows=rows)
        left += choice.recommendations[0].recommended != "p0"
        looked_best += choice.best != "p0"
        called_worse += any(versus.sign < 0 for versus in choice.against_best.values())
    at_most = 0.05 * runs + 2.33 * (0.05 * 0.95 * runs) ** 0.5  # a rule that errs in 5 % passes 99 times of 100
    assert left <= at_most
    assert called_worse <= at_most
    assert looked_best > 0.6 * runs  # whoever takes the best nearly always leaves a prompt that is as good


def test_a_candidate_that_is_better_is_found() -> None:
    random = np.random.default_rng(2)
    runs, rows = 40, 300
    found = sum(
        chosen(*simulated(random, 5, rows, better=0.15), rows=rows).recommendations[0].recommended == "p4"
        for _ in range(runs)
    )
    assert found >= 0.8 * runs


def test_the_promised_difference_is_found_as_often_as_promised() -> None:
    random = np.random.default_rng(3)
    rows, runs, found, promised = 120, 200, 0, []
    for _ in range(runs):
        differing = random.random(rows) < 0.3
        second = random.random(rows) < 0.5 + 0.206 / 2 / 0.3  # right on 20.6 % more of all rows
        own = entrant("own", list(~differing | ~second), configured=True)
        choice = chosen(own, entrant("new", list(~differing | second)), rows=rows)
        found += choice.recommendations[0].recommended == "new"
        promised.append(choice.detectable)
    assert np.mean(promised) == pytest.approx(0.15, abs=0.02)
    assert found >= 0.85 * runs  # a difference above the promised one, of which 80 % were to be found


def test_six_rows_of_one_kind_are_needed() -> None:
    own, new = split(20, 0, 5)
    kept = chosen(entrant("default", own, configured=True), entrant("new", new), rows=25)
    assert kept.best == "new"
    assert kept.recommendations[0].recommended == "default"
    assert kept.against_configured["new"].p_value == 0.0625
    own, new = split(20, 0, 6)
    assert (
        chosen(entrant("default", own, configured=True), entrant("new", new), rows=26).recommendations[0].recommended
        == "new"
    )


def test_every_further_candidate_raises_the_bar() -> None:
    own, new = split(20, 0, 6)
    same = entrant("same", own)
    choice = chosen(entrant("default", own, configured=True), entrant("new", new), same, rows=26)
    assert choice.against_configured["new"].p_adjusted == pytest.approx(2 * 0.03125)
    assert choice.recommendations[0].recommended == "default"
    assert choice.against_best["same"].p_adjusted == pytest.approx(3 * 0.03125)  # every pair counts


def test_the_faster_of_two_good_ones_is_preferred_only_where_it_is_shown_to_be_as_good() -> None:
    own = [True] * 300 + [False] * 100
    best = [True] * 360 + [False] * 40
    near = [True] * 358 + [False] * 2 + [False] * 40
    far = [True] * 335 + [False] * 65

    def pick(rival: list[bool], speed: float) -> str:
        entrants = (
            entrant("default", own, configured=True, speed=10),
            entrant("best", best, speed=10),
            entrant("rival", rival, speed=speed),
        )
        return chosen(*entrants, rows=400).recommendations[0].recommended

    assert pick(near, 30) == "rival"
    assert pick(near, 11) == "best"  # no faster than a measurement varies
    assert pick(far, 30) == "best"


def test_a_faster_candidate_is_named_beside_the_configured_one() -> None:
    own = [True] * 380 + [False] * 20
    choice = chosen(entrant("default", own, configured=True, speed=10), entrant("short", own, speed=20), rows=400)
    assert choice.recommendations[0].recommended == "default"
    assert choice.recommendations[0].faster == "short"
    sentence = recommendation_sentence(choice.recommendations[0], choice, MARGIN)
    assert sentence == (
        "Keep default: no other candidate has more rows right. short is clearly faster, and no more than 5 points less"
        " accurate than default (95 % interval)."
    )


def test_each_teacher_keeps_its_own_unless_another_of_its_own_is_better() -> None:
    weak, strong = split(40, 0, 30)
    choice = chosen(
        entrant("a default", weak, teacher="a", configured=True),
        entrant("b default", strong, teacher="b", configured=True),
        entrant("b short", strong, teacher="b"),
        rows=70,
    )
    assert [each.recommended for each in choice.recommendations] == ["a default", "b default"]
    assert verdict("a default", choice) == "worse"
    assert recommendation_sentence(choice.recommendations[0], choice, MARGIN) == (
        "Keep a default: there is nothing to compare it with."
    )


def test_rows_of_a_group_count_once() -> None:
    own, new = split(20, 0, 12)
    alone = chosen(entrant("default", own, configured=True), entrant("new", new), rows=32)
    assert alone.recommendations[0].recommended == "new"
    groups = [f"g{row % 10}" for row in range(20)] + ["one"] * 6 + ["two"] * 6
    grouped = chosen(
        entrant("default", own, configured=True, groups=groups), entrant("new", new, groups=groups), rows=32
    )
    versus = grouped.against_configured["new"]
    assert versus.test == "sign flip by group"
    assert versus.p_value == 0.5  # two groups, both one way
    assert "found in 80 % of cases at most, since they come in groups" in caveats(grouped, 32)[0]
    assert grouped.recommendations[0].recommended == "default"


def test_rows_that_a_candidate_did_not_answer_are_not_compared() -> None:
    full, few = [True] * 30 + [False] * 10, [True] * 8 + [None] * 32
    choice = chosen(
        entrant("default", full, teacher="a", configured=True),
        entrant("log", few, teacher="b", configured=True),
        entrant("other log", [None] * 39 + [True], teacher="c", configured=True),
        rows=40,
    )
    assert choice.best == "default"
    assert choice.against_best["log"].n == 8
    assert verdict("other log", choice) == "no significant difference"
    nothing = chosen(entrant("default", full, configured=True), entrant("never", [None] * 40), rows=40)
    assert nothing.against_configured["never"].p_adjusted is None
    assert verdict("never", nothing) == "no row in common"
    assert caveats(nothing, 40) == []


def test_what_the_rows_could_have_shown_is_said() -> None:
    own, new = split(3, 0, 1)
    few = chosen(entrant("default", own, configured=True), entrant("new", new), rows=4)
    assert caveats(few, 4) == [
        "With 4 rows, of which 25.0 % tell a candidate from the configured one, no difference could have been shown,"
        " however large: more rows with gold are needed."
    ]
    own, new = split(150, 12, 18, 20)
    many = chosen(entrant("default", own, configured=True), entrant("new", new), entrant("third", new), rows=200)
    able, optimistic = caveats(many, 200)
    assert able.startswith(
        "With 200 rows, of which 15.0 % tell a candidate from the configured one, a difference of 8.5 points"
    )
    assert optimistic.startswith("The best of 3 candidates looks better than it is")
    assert recommendation_sentence(many.recommendations[0], many, MARGIN).startswith(
        "Keep default: nothing is shown to be better; new comes closest, and its accuracy differs by +3.0 points (95 %"
        " interval −2.5 to +8.7; p 0.723, corrected for 2 comparisons)."
    )


def test_one_candidate_alone_is_no_comparison() -> None:
    choice = chosen(entrant("default", [True] * 5, configured=True), rows=5)
    assert (choice.best, choice.against_best, choice.detectable) == ("default", {}, None)
    assert verdict("default", choice) == "only candidate"
    assert caveats(choice, 5) == []
