"""Of rows with nearly the same text, keeps the one whose label is surest.

Near copies that say the same add weight, not knowledge; where the teacher labelled two of them differently, at most
one is right. A person's label is surest, a row that a teacher wrote least; then the more probable label comes first. Of
equals a hash of the id decides, so that the order of the file does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mlxdistill.filters.candidate import Candidate
from mlxdistill.store import Decision
from mlxdistill.tasks.rows import content_hash, normalised
from mlxdistill.text.near_duplicates import near_duplicates
from mlxdistill.text.shingles import shingles

NAME = "near_duplicates"


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """`threshold`: the least Jaccard similarity of two texts that are nearly the same."""

    threshold: float

    def __call__(self, candidates: Iterable[Candidate]) -> Iterator[Decision]:
        listed = list(candidates)
        originals = self._originals(listed)
        for place, candidate in enumerate(listed):
            row, original = candidate.row, listed[originals[place]].row
            if originals[place] == place:
                yield Decision(row.id, NAME, True, "no row that comes before it has nearly the same text")
            else:
                reason = f"nearly the same text as row {original.id}"
                yield Decision(row.id, NAME, False, reason, _similarity(row.text, original.text))

    def _originals(self, candidates: Sequence[Candidate]) -> list[int]:
        """For each candidate the place of the one that stands for it."""
        order = sorted(range(len(candidates)), key=lambda place: _sureness(candidates[place]))
        found = near_duplicates((normalised(candidates[place].row.text) for place in order), self.threshold)
        originals = list(range(len(candidates)))
        for place, original in zip(order, found.tolist(), strict=True):
            originals[place] = order[original]
        return originals


def _sureness(candidate: Candidate) -> tuple[bool, bool, float, str]:
    """The surest first."""
    probabilities = candidate.answer.probabilities if candidate.answer else None
    return (
        not candidate.by_person,
        bool(candidate.row.meta.get("synthetic")),
        -max(probabilities) if probabilities else -1.0,
        content_hash(candidate.row.id),
    )


def _similarity(text: str, other: str) -> float:
    ours, theirs = shingles(normalised(text)), shingles(normalised(other))
    common = len(ours & theirs)
    return common / (len(ours) + len(theirs) - common)
