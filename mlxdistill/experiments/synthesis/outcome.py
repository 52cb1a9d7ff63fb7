"""What came of a job: rows and drafts of each class, why drafts were rejected, and how varied the rows are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlxdistill.experiments.synthesis.journal import Journal
from mlxdistill.experiments.synthesis.wanted import Job
from mlxdistill.tasks.rows import Row, normalised
from mlxdistill.text.diversity import diversity
from mlxdistill.text.nearest import nearest

SCHEMA = 1
MOST_COMPARED = 500  # rows of a class whose variety is measured; of more, these many by chance
MOST_COMPARED_WITH = 20_000  # real rows of the class, likewise


def outcome_of(
    job: Job, journal: Journal, real: Mapping[str, Sequence[Row]], synthetic: Sequence[Row]
) -> dict[str, Any]:
    """What is kept, and printed.

    Args:
        real: the rows of each label that teach, without synthetic ones.
        synthetic: all that there are, of whatever job.
    """
    classes: dict[str, dict[str, Any]] = {}
    for label, rows in real.items():
        own = [row for row in synthetic if row.meta["intended"] == label]
        wanted = job.wanted.get(label, 0)
        if not wanted and not own:
            continue
        outcomes = journal.outcomes(label, job.number)
        rejected = {reason: count for reason, count in outcomes.most_common() if reason is not None}
        drafts = outcomes.total()
        classes[label] = {
            "real": len(rows),
            "synthetic": len(own),
            "wanted": wanted,
            "accepted": outcomes[None],
            "drafts": drafts,
            "yield": outcomes[None] / drafts if drafts else None,
            "rejected": rejected,
            "variety": _variety(rows, own),
        }
    total, written = sum(map(len, real.values())), len(synthetic)
    return {
        "schema": SCHEMA,
        "rows": written,
        "share": written / (total + written) if written else 0.0,
        "complete": all(each["accepted"] >= each["wanted"] for each in classes.values()),
        "classes": classes,
    }


def _variety(real: Sequence[Row], synthetic: Sequence[Row]) -> dict[str, Any] | None:
    """Of as many real rows as synthetic ones; None where there are none of either."""
    count = min(len(real), len(synthetic), MOST_COMPARED)
    if not count:
        return None
    drawn = [normalised(real[place].text) for place in _drawn(len(real), MOST_COMPARED_WITH)]
    # Drawn in the order of chance: the first of them are a sample of their own.
    some, others = drawn[:count], drawn[count:]
    written = [normalised(synthetic[place].text) for place in _drawn(len(synthetic), count)]
    alike = nearest(some, some, but_itself=True)
    near = np.maximum(alike, nearest(some, others)) if len(drawn) > 1 else None
    return {
        "real": _figures(some, near),
        "synthetic": _figures(written, nearest(written, drawn)),
    }


def _figures(texts: Sequence[str], near: NDArray[np.float64] | None) -> dict[str, Any]:
    """`near`: of each text, its similarity to the most similar real row besides itself."""
    measured = diversity(texts)
    return {
        "texts": measured.texts,
        "distinct": list(measured.distinct),
        "self_similarity": measured.self_similarity,
        "nearest_real": None if near is None else float(near.mean()),
    }


def _drawn(rows: int, count: int) -> list[int]:
    """Places by chance, the same each time."""
    return [int(place) for place in np.random.default_rng(0).permutation(rows)[:count]]
