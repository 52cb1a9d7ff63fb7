"""Rows that need not be asked about, because another row's answer will do.

Rows of the pool may take the answer to an earlier row with nearly the same text, where the configuration allows it.
Validation and test rows measure, so their answers are the teacher's own, also where they are rows of the pool; but
where two of them have the very same text under two ids (given sets may overlap), the model would read the same twice,
and the second takes the first's answer.
Who copies from whom depends on the rows alone, never on what is answered already, so that the waves of a resumed run
are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mlxdistill.tasks.rows import Row, content_hash, normalised
from mlxdistill.text.near_duplicates import near_duplicates


def find_sources(pool: Iterable[Row], others: Iterable[Row], threshold: float | None) -> dict[str, str]:
    """Id of a row that is not asked about -> id of the row whose answer it takes, which is asked about.

    Args:
        pool: read once.
        others: validation and test rows; a row may occur twice.
        threshold: the least Jaccard similarity (`text.near_duplicates`); None: no row of the pool copies.
    """
    measuring = {row.id: row for row in others}
    sources: dict[str, str] = {}
    if threshold is not None:
        pairs = _nearly_same(pool, threshold).items()
        sources = {row_id: source for row_id, source in pairs if row_id not in measuring}
    first: dict[str, str] = {}
    for row in measuring.values():
        source = first.setdefault(content_hash(row.text), row.id)
        if source != row.id:
            sources[row.id] = source
    return sources


def _nearly_same(pool: Iterable[Row], threshold: float) -> dict[str, str]:
    ids: list[str] = []

    def texts() -> Iterator[str]:
        for row in pool:
            ids.append(row.id)
            yield normalised(row.text)

    stands = near_duplicates(texts(), threshold).tolist()
    return {ids[place]: ids[source] for place, source in enumerate(stands) if source != place}
