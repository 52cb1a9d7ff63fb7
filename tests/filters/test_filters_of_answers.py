"""Filters that look at the answer: margin, agreement, near duplicates, the cap of a class, the judge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from mlxdistill.config.filter import JudgeConfig
from mlxdistill.filters import exact_duplicates
from mlxdistill.filters.agreement import Agreement
from mlxdistill.filters.candidate import Candidate
from mlxdistill.filters.class_cap import ClassCap
from mlxdistill.filters.judge import Graded, Judge, worst
from mlxdistill.filters.margin import Margin
from mlxdistill.filters.near_duplicates import NearDuplicates
from mlxdistill.store import Decision
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row

TEXT = "my card was stolen in the city of paris last night and i need help at once"


def candidate(name: str, text: str = "", top: float = 0.9, label: str = "ok", **others: Any) -> Candidate:
    by_person, meta = others.pop("by_person", False), others.pop("meta", {})
    answer = Answer(name, label, (top, 1 - top), **others)
    return Candidate(Row(name, text or name, meta=meta), answer, by_person)


def kept(decisions: Iterable[Decision]) -> list[str]:
    return [decision.row_id for decision in decisions if decision.kept]


def test_the_margin_is_between_the_two_most_probable_labels() -> None:
    def with_shares(*shares: float) -> Candidate:
        return Candidate(Row("a", "text"), Answer("a", "ok", shares))

    (near,) = Margin(0.2)([with_shares(0.1, 0.45, 0.3, 0.15)])
    assert (near.kept, near.reason) == (False, "margin under 0.2")
    assert near.score == pytest.approx(0.15)
    (far,) = Margin(0.2)([with_shares(0.15, 0.2, 0.25, 0.5)])
    assert (far.kept, far.score) == (True, 0.25)


def test_a_margin_or_an_agreement_that_nobody_knows_drops_nothing() -> None:
    bare = Candidate(Row("a", "text"), Answer("a", "ok"))
    assert kept(Margin(1.0)([bare])) == ["a"]
    assert kept(Agreement(1.0)([bare])) == ["a"]


def test_two_of_three_votes_are_two_thirds() -> None:
    votes = [candidate("a", agreement=2 / 3), candidate("b", agreement=1 / 3), candidate("c", agreement=1.0)]
    decisions = list(Agreement(0.6666667)(votes))
    assert kept(decisions) == ["a", "c"]
    assert decisions[1].score == pytest.approx(1 / 3)
    assert "fewer than 0.667 of the answers" in decisions[1].reason


def test_of_near_duplicates_the_surest_stays_wherever_it_stands() -> None:
    rows = [candidate("first", TEXT, 0.7), candidate("other", "hello"), candidate("surest", f"{TEXT}!", 0.95)]
    decisions = list(NearDuplicates(0.8)(rows))
    assert [decision.row_id for decision in decisions] == ["first", "other", "surest"]
    assert kept(decisions) == ["other", "surest"]
    assert decisions[0].reason == "nearly the same text as row surest"
    assert decisions[0].score == pytest.approx(70 / 71)


def test_of_near_duplicates_a_persons_label_stays_and_a_synthetic_row_goes() -> None:
    person = candidate("person", TEXT, 0.5, by_person=True)
    synthetic = candidate("synthetic", f"{TEXT}!", 0.99, meta={"synthetic": True})
    real = candidate("real", f"{TEXT}?", 0.6)
    assert kept(NearDuplicates(0.8)([real, synthetic, person])) == ["person"]
    assert kept(NearDuplicates(0.8)([synthetic, real])) == ["real"]


def test_of_exact_duplicates_the_first_that_a_person_labelled_stays() -> None:
    rows = [candidate("a", "Same"), candidate("b", "same", by_person=True), candidate("c", " same ", by_person=True)]
    decisions = list(exact_duplicates.decide(rows))
    assert kept(decisions) == ["b"]
    assert decisions[0].reason == "the same text as row b"


def test_the_cap_is_of_each_class_and_drawn_by_the_seed() -> None:
    rows = [candidate(f"{label}{number}", label=label) for label in ("ok", "toxic") for number in range(30)]
    rows.append(candidate("rare", label="rare"))
    chosen = {seed: kept(ClassCap(10, seed)(rows)) for seed in (1, 2)}
    for names in chosen.values():
        assert [sum(name.startswith(label) for name in names) for label in ("ok", "toxic", "rare")] == [10, 10, 1]
    assert chosen[1] != chosen[2]
    assert chosen[1] != [row.row.id for row in rows[:10] + rows[30:40]] + ["rare"], "not the first of the file"


def test_a_rows_place_under_the_cap_does_not_depend_on_the_rows_around_it() -> None:
    rows = [candidate(f"row{number}") for number in range(40)]
    few, many = kept(ClassCap(5, 0)(rows)), kept(ClassCap(12, 0)(rows))
    assert set(few) < set(many)
    assert set(kept(ClassCap(5, 0)(rows[::2]))) >= {name for name in few if int(name[3:]) % 2 == 0}


def test_under_the_cap_a_persons_label_comes_first() -> None:
    rows = [candidate(f"row{number}", by_person=number == 17) for number in range(40)]
    assert kept(ClassCap(1, 0)(rows)) == ["row17"]


def graded(*grades: float, label: str = "ok") -> list[Graded]:
    return [Graded(f"{label}{place}", label, value) for place, value in enumerate(grades)]


def test_the_judge_takes_the_same_share_of_every_class() -> None:
    rows = graded(*(1 + place / 10 for place in range(20))) + graded(*([4.0] * 9 + [3.9]), label="toxic")
    named = worst(rows, JudgeConfig(drop=0.1), 0)
    assert named == dict.fromkeys(("ok0", "ok1", "toxic9"), "among the worst graded 10 % of its class")
    assert set(worst(rows, JudgeConfig(drop=0.1, per_class=False), 0)) == {"ok0", "ok1", "ok2"}


def test_the_judge_drops_what_is_graded_under_a_limit() -> None:
    named = worst(graded(1.2, 2.99, 3.0, 4.8), JudgeConfig(least=3.0), 0)
    assert named == {"ok0": "graded under 3", "ok1": "graded under 3"}


def test_the_judge_is_asked_about_labels_of_teachers_only() -> None:
    asked: list[str] = []

    def grades(candidates: Sequence[Candidate]) -> dict[str, float]:
        asked.extend(each.row.id for each in candidates)
        return {each.row.id: 1.0 for each in candidates}

    rows = [candidate("a"), candidate("b", by_person=True), Candidate(Row("c", "text"), None)]
    decisions = list(Judge(JudgeConfig(least=2), 0, grades)(rows))
    assert asked == ["a"]
    assert [(each.row_id, each.kept, each.score) for each in decisions] == [
        *(("a", False, 1.0), ("b", True, None), ("c", True, None))
    ]


def test_a_judge_that_is_not_believed_is_not_asked() -> None:
    def never(candidates: Sequence[Candidate]) -> dict[str, float]:
        raise AssertionError

    (decision,) = Judge(JudgeConfig(), 0, never, "no better than chance")([candidate("a")])
    assert decision == Decision("a", "judge", True, "the judge is not used: no better than chance")
