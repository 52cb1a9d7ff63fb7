"""Keeps the first of rows whose normalised texts are the same: a copy adds weight, not knowledge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mlxdistill.filters.candidate import Candidate
from mlxdistill.store import Decision
from mlxdistill.tasks.rows import content_id

NAME = "exact_duplicates"


def decide(candidates: Iterable[Candidate]) -> Iterator[Decision]:
    first: dict[str, str] = {}
    for candidate in candidates:
        row = candidate.row
        original = first.setdefault(content_id(row.text), row.id)
        if original == row.id:
            yield Decision(row.id, NAME, True, "first of its text")
        else:
            yield Decision(row.id, NAME, False, f"the same text as row {original}")
