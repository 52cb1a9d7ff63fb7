"""Keeps one of the rows whose normalised texts are the same: a copy adds weight, not knowledge.

It is the first of them that a person labelled, or else the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mlxdistill.filters.candidate import Candidate
from mlxdistill.store import Decision
from mlxdistill.tasks.rows import content_id

NAME = "exact_duplicates"


def decide(candidates: Iterable[Candidate]) -> Iterator[Decision]:
    listed = list(candidates)
    keys = [content_id(candidate.row.text) for candidate in listed]
    kept: dict[str, Candidate] = {}
    for key, candidate in zip(keys, listed, strict=True):
        if key not in kept or (candidate.by_person and not kept[key].by_person):
            kept[key] = candidate
    for key, candidate in zip(keys, listed, strict=True):
        row, original = candidate.row, kept[key].row
        if original.id == row.id:
            yield Decision(row.id, NAME, True, "first of its text")
        else:
            yield Decision(row.id, NAME, False, f"the same text as row {original.id}")
