"""Labels by people and the filters: nothing that asks how good a label is may drop or change them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from mlxdistill.filters.candidate import BY_PERSON, Candidate
from mlxdistill.filters.funnel import run_filters
from mlxdistill.store import Decision
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row

CANDIDATES = [
    Candidate(Row("teacher", "x"), Answer("teacher", "ok"), False),
    Candidate(Row("person", "y"), Answer("person", "ok"), True),
]


def dropping(name: str, **treated: object) -> object:
    def decide(candidates: Iterable[Candidate]) -> Iterator[Decision]:
        for candidate in candidates:
            yield Decision(candidate.row.id, name, bool(treated), "doubtful", 0.1, **treated)  # type: ignore[arg-type]

    return decide


@pytest.mark.parametrize(
    "name", ["answered", "budget", "min_confidence", "min_margin", "agreement", "noise", "dynamics", "judge"]
)
def test_a_filter_about_labels_passes_them_by(name: str) -> None:
    taken = run_filters([dropping(name), dropping("length")], CANDIDATES)
    assert taken[0] == Decision("teacher", name, False, "doubtful", 0.1)
    assert taken[1] == Decision("person", name, True, BY_PERSON, 0.1)
    assert taken[2:] == [Decision("person", "length", False, "doubtful", 0.1)]


@pytest.mark.parametrize("treated", [{"weight": 0.1}, {"label": "toxic"}, {"probabilities": (0.5, 0.5)}])
def test_nothing_changes_what_they_teach(treated: dict[str, object]) -> None:
    taken = run_filters([dropping("noise", **treated)], CANDIDATES)
    assert taken[0].is_treatment
    assert taken[1] == Decision("person", "noise", True, BY_PERSON, 0.1)


@pytest.mark.parametrize(
    "name", ["held_out", "length", "exact_duplicates", "near_duplicates", "most_per_class", "rule"]
)
def test_a_filter_about_rows_drops_them_like_any_other(name: str) -> None:
    assert not any(decision.kept for decision in run_filters([dropping(name)], CANDIDATES))
