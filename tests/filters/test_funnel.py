"""Filters decide about every row they see, with a reason, and nothing else changes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdistill.config.filter import FilterConfig, JudgeConfig
from mlxdistill.filters.candidate import Candidate
from mlxdistill.filters.funnel import ClassCounts, FunnelStep, dropped_rows, filters_of, funnel, run_filters
from mlxdistill.filters.judge import Judge
from mlxdistill.store import Decision
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row, content_hash

CONFIG = FilterConfig(min_confidence=0.8, min_characters=3, max_characters=20)
EVERYTHING = FilterConfig(
    min_confidence=0.55,
    min_margin=0.2,
    agreement=0.5,
    near_duplicates=0.6,
    most_per_class=6,
    min_characters=2,
    max_characters=60,
    rules=({"must_not_match": "zz"}, {"max_words": 9, "only": "ok"}, {"about": "answer", "required_fields": "label"}),
)


def candidate(name: str, text: str, top: float | None = 0.9, label: str | None = "ok") -> Candidate:
    probabilities = None if top is None else (top, 1 - top)
    return Candidate(Row(name, text), Answer(name, label, probabilities))


def counted(steps: Iterable[FunnelStep]) -> list[tuple[str, int, dict[str, int]]]:
    return [(step.filter, step.kept, step.dropped) for step in steps]


def test_each_row_is_dropped_once_with_its_reason() -> None:
    candidates = [
        candidate("kept", "a good text"),
        candidate("copy", " A good  TEXT"),
        candidate("short", "a"),
        candidate("long", "a" * 21),
        candidate("unsure", "another text", 0.6),
        candidate("unparsable", "third text", None, None),
        candidate("logged", "fourth text", None),
        Candidate(Row("missing", "fifth text"), None),
    ]
    decisions = run_filters(filters_of(CONFIG), candidates)
    assert counted(funnel(decisions)) == [
        ("answered", 6, {"the answer names no label": 1, "the teacher has no answer for this row": 1}),
        ("length", 4, {"shorter than 3 characters": 1, "longer than 20 characters": 1}),
        ("exact_duplicates", 3, {"the same text as another row": 1}),
        ("min_confidence", 2, {"confidence under 0.8": 1}),
    ]
    assert dropped_rows(decisions) == {"copy", "short", "long", "unsure", "unparsable", "missing"}
    assert next(d.reason for d in decisions if d.row_id == "copy" and not d.kept) == "the same text as row kept"


def test_the_funnel_says_which_class_lost_what_and_names_rows() -> None:
    candidates = [candidate(f"a{number}", "x" * (number + 1)) for number in range(9)]
    candidates += [candidate(f"b{number}", "y" * (number + 1), 0.3, "toxic") for number in range(4)]
    decisions = run_filters(filters_of(CONFIG), candidates)
    labels = {each.row.id: each.answer.label for each in candidates if each.answer}
    steps = {step.filter: step for step in funnel(decisions, labels)}
    assert steps["length"].classes == {"ok": ClassCounts(7, 2), "toxic": ClassCounts(2, 2)}
    assert steps["length"].examples == {"shorter than 3 characters": ["a0", "a1", "b0", "b1"]}
    assert steps["min_confidence"].classes == {"ok": ClassCounts(7, 0), "toxic": ClassCounts(0, 2)}


def test_rows_that_are_kept_but_teach_otherwise_are_counted() -> None:
    decisions = [
        Decision("a", "noise", True, "counts less", weight=0.3),
        Decision("b", "noise", True, "both are learned", probabilities=(0.6, 0.4)),
        Decision("c", "noise", True, "learned as that", label="toxic", probabilities=(0.1, 0.9)),
        Decision("d", "noise", False, "likely wrong"),
        Decision("e", "noise", True, "not among the likely mislabelled"),
    ]
    (step,) = funnel(decisions)
    assert (step.kept, step.treated) == (4, {"weighed": 1, "softened": 1, "flipped": 1})


def test_a_filter_that_is_off_decides_nothing() -> None:
    config = FilterConfig(min_characters=None, exact_duplicates=False)
    decisions = run_filters(filters_of(config), [candidate("a", "x"), candidate("b", "x")])
    assert {decision.filter for decision in decisions} == {"answered"}


def test_cheap_filters_run_before_those_that_ask_a_model_and_the_cap_comes_last() -> None:
    def learned(candidates: Iterable[Candidate]) -> Iterator[Decision]:
        for each in candidates:
            yield Decision(each.row.id, "learned", True, "")

    decisions = run_filters(filters_of(EVERYTHING, [learned]), [candidate("a", "a good text")])
    assert [decision.filter for decision in decisions] == [
        *("answered", "length", "exact_duplicates", "min_confidence", "min_margin", "agreement"),
        *("rule: must_not_match zz", "rule: max_words 9, only ok", "rule: required_fields label, of the answer"),
        *("near_duplicates", "learned", "most_per_class"),
    ]


WORDS = st.lists(st.sampled_from(["zz", "a", "card", "stolen", "\u202e", "😀", "\0", "\ud800"]), max_size=12).map(
    " ".join
)
ROWS = st.lists(
    st.tuples(WORDS, st.floats(0.5, 1), st.sampled_from([None, 0.4, 0.6, 1.0]), st.booleans(), st.booleans()),
    max_size=30,
)


def made(rows: Iterable[tuple[str, float, float | None, bool, bool]]) -> list[Candidate]:
    found = []
    for number, (text, top, agreement, toxic, by_person) in enumerate(rows):
        name = str(number)
        shares = (1 - top, top) if toxic else (top, 1 - top)
        written = '{"label": "x"}' if number % 3 else "no JSON"
        answer = Answer(name, "toxic" if toxic else "ok", shares, text=written, agreement=agreement)
        found.append(Candidate(Row(name, text), None if number % 11 == 10 else answer, by_person))
    return found


def grades(candidates: Iterable[Candidate]) -> dict[str, float]:
    return {each.row.id: 1 + int(content_hash(each.row.id)[:4], 16) % 5 for each in candidates}


@settings(deadline=None)
@given(ROWS)
def test_no_row_is_invented_lost_or_moved(rows: list[tuple[str, float, float | None, bool, bool]]) -> None:
    candidates = made(rows)
    filters = filters_of(EVERYTHING, [Judge(JudgeConfig(drop=0.3), 0, grades)])
    decisions = run_filters(filters, candidates)
    order = [each.row.id for each in candidates]
    left = order
    for step in funnel(decisions):
        taken = [decision for decision in decisions if decision.filter == step.filter]
        assert [decision.row_id for decision in taken] == left
        left = [decision.row_id for decision in taken if decision.kept]
        assert (len(left), len(taken) - len(left)) == (step.kept, sum(step.dropped.values()))
    assert set(left) == set(order) - dropped_rows(decisions)
    assert run_filters(filters, candidates) == decisions


@settings(deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_near_duplicates_the_cap_and_the_judge_do_not_heed_the_order_of_the_file(
    rows: list[tuple[str, float, float | None, bool, bool]], shuffler: random.Random
) -> None:
    config = FilterConfig(exact_duplicates=False, near_duplicates=0.6, most_per_class=3, seed=5)
    filters = filters_of(config, [Judge(JudgeConfig(drop=0.3), 5, grades)])
    candidates = made(rows)
    shuffled = list(candidates)
    shuffler.shuffle(shuffled)

    def decided(given: list[Candidate]) -> dict[tuple[str, str], Decision]:
        return {(decision.filter, decision.row_id): decision for decision in run_filters(filters, given)}

    assert decided(shuffled) == decided(candidates)


@given(st.lists(st.tuples(st.text(max_size=25), st.floats(0.5, 1)), max_size=30))
def test_counts_add_up(rows: list[tuple[str, float]]) -> None:
    candidates = [candidate(str(number), text, top) for number, (text, top) in enumerate(rows)]
    steps = funnel(run_filters(filters_of(CONFIG), candidates))
    for before, after in itertools.pairwise(steps):
        assert after.kept + sum(after.dropped.values()) == before.kept


@pytest.mark.parametrize("name", ["min_confidence", "min_margin", "agreement", "judge"])
def test_filters_about_labels_pass_a_persons_label_by(name: str) -> None:
    config = FilterConfig(**{name: 0.99}) if name != "judge" else FilterConfig()
    learned = [Judge(JudgeConfig(least=5), 0, lambda given: {each.row.id: 1.0 for each in given})] * (name == "judge")
    answer = Answer("a", "ok", (0.5, 0.5), agreement=0.5)
    for by_person in (False, True):
        decisions = run_filters(filters_of(config, learned), [Candidate(Row("a", "some text"), answer, by_person)])
        assert dropped_rows(decisions) == (set() if by_person else {"a"})
