"""Filters decide about every row they see, with a reason, and nothing else changes."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from mlxdistill.config.filter import FilterConfig
from mlxdistill.filters.candidate import Candidate
from mlxdistill.filters.funnel import FunnelStep, dropped_rows, filters_of, funnel, run_filters
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row

CONFIG = FilterConfig(min_confidence=0.8, min_characters=3, max_characters=20)


def candidate(name: str, text: str, top: float | None = 0.9, label: str | None = "ok") -> Candidate:
    probabilities = None if top is None else (top, 1 - top)
    return Candidate(Row(name, text), Answer(name, label, probabilities))


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
    assert funnel(decisions) == [
        FunnelStep("answered", 6, {"the answer names no label": 1, "the teacher has no answer for this row": 1}),
        FunnelStep("length", 4, {"shorter than 3 characters": 1, "longer than 20 characters": 1}),
        FunnelStep("exact_duplicates", 3, {"the same text as another row": 1}),
        FunnelStep("min_confidence", 2, {"confidence under 0.8": 1}),
    ]
    assert dropped_rows(decisions) == {"copy", "short", "long", "unsure", "unparsable", "missing"}
    assert next(d.reason for d in decisions if d.row_id == "copy" and not d.kept) == "the same text as row kept"


def test_a_filter_that_is_off_decides_nothing() -> None:
    config = FilterConfig(min_characters=None, exact_duplicates=False)
    decisions = run_filters(filters_of(config), [candidate("a", "x"), candidate("b", "x")])
    assert {decision.filter for decision in decisions} == {"answered"}


@given(st.lists(st.tuples(st.text(max_size=25), st.floats(0.5, 1)), max_size=30))
def test_no_row_is_invented_lost_or_moved(rows: list[tuple[str, float]]) -> None:
    candidates = [candidate(str(number), text, top) for number, (text, top) in enumerate(rows)]
    decisions = run_filters(filters_of(CONFIG), candidates)
    seen = [decision.row_id for decision in decisions if decision.filter == "answered"]
    assert seen == [candidate.row.id for candidate in candidates]
    steps = funnel(decisions)
    for before, after in itertools.pairwise(steps):
        assert after.kept + sum(after.dropped.values()) == before.kept
