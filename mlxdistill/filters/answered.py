"""Drops rows without a usable answer: never asked, or an answer that names no label."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mlxdistill.filters.candidate import Candidate
from mlxdistill.store import Decision

NAME = "answered"


def decide(candidates: Iterable[Candidate]) -> Iterator[Decision]:
    for candidate in candidates:
        answer = candidate.answer
        if answer is None:
            yield Decision(candidate.row.id, NAME, False, "the teacher has no answer for this row")
        elif answer.label is None:
            yield Decision(candidate.row.id, NAME, False, "the answer names no label")
        else:
            yield Decision(candidate.row.id, NAME, True, "answered")
