"""Records as arrays: what one system said about the rows of a set that have a reference, and two systems side by
side.

Rows are ordered by id and groups by name, so that a bootstrap gives the same interval whatever the order of the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlxdistill.evaluation.records import Record
from mlxdistill.statistics.resampling import Floats, Integers, cluster_places


@dataclass(frozen=True, slots=True)
class Sample:
    """One system on one set.

    Attributes:
        labels: how many labels (K) the task has.
        reference: (n,) the right label's place in the task's order.
        predicted: (n,) the same for the prediction; K where the answer named no label.
        with_probabilities: the rows (places in 0..n-1) that have class probabilities.
        probabilities: (len(with_probabilities), K).
        clusters: (n,) the group of each row, 0..G-1; None where no two rows share one.
    """

    labels: int
    reference: Integers
    predicted: Integers
    with_probabilities: Integers
    probabilities: Floats
    clusters: Integers | None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two systems on the rows both answered.

    Attributes:
        a_right, b_right: (n,) 1 where the system is right, else 0.
        reference: (n,) the right label's place in `labels`.
        labels: the task's, in order.
        clusters: as in Sample.
    """

    a_right: Integers
    b_right: Integers
    reference: Integers
    labels: tuple[str, ...]
    clusters: Integers | None

    @property
    def cells(self) -> Floats:
        """(n, 4): one where both, only a, only b, neither is right."""
        a, b = self.a_right, self.b_right
        return np.column_stack([a * b, a * (1 - b), (1 - a) * b, (1 - a) * (1 - b)]).astype(np.float64)

    @property
    def class_counts(self) -> dict[str, int]:
        """The rows by their right label, in the task's order; 0 for a label that none has."""
        counts = np.bincount(self.reference, minlength=len(self.labels))
        return {label: int(count) for label, count in zip(self.labels, counts, strict=True)}

    def size(self, rows: int) -> dict[str, Any]:
        """How many rows they are, and, where the set has more (`rows`), of which classes."""
        n = len(self.reference)
        return {"n": n, "class_counts": self.class_counts} if 0 < n < rows else {"n": n}


def make_sample(records: Mapping[str, Record], reference: Mapping[str, str], labels: Sequence[str]) -> Sample:
    """The sample of the rows that have both an answer and a reference.

    Args:
        records: one system's records of one set, by row id.
        reference: the right label, by row id.
    """
    place = {name: index for index, name in enumerate(labels)}
    rows = [records[row_id] for row_id in sorted(records) if row_id in reference]
    known = [index for index, row in enumerate(rows) if row.probabilities is not None]
    return Sample(
        labels=len(labels),
        reference=np.array([place[reference[row.id]] for row in rows], dtype=np.int64),
        predicted=np.array(
            [len(labels) if row.prediction is None else place[row.prediction] for row in rows], dtype=np.int64
        ),
        with_probabilities=np.array(known, dtype=np.int64),
        probabilities=np.array([rows[index].probabilities for index in known], dtype=np.float64).reshape(
            len(known), len(labels)
        ),
        clusters=_clusters(rows),
    )


def make_pair(
    a: Mapping[str, Record], b: Mapping[str, Record], reference: Mapping[str, str], labels: Sequence[str]
) -> Pair:
    """Two systems' records of one set, on the rows that both answered and that have a reference."""
    rows = [a[row_id] for row_id in sorted(a) if row_id in b and row_id in reference]
    place = {name: index for index, name in enumerate(labels)}
    return Pair(
        a_right=np.array([row.prediction == reference[row.id] for row in rows], dtype=np.int64),
        b_right=np.array([b[row.id].prediction == reference[row.id] for row in rows], dtype=np.int64),
        reference=np.array([place[reference[row.id]] for row in rows], dtype=np.int64),
        labels=tuple(labels),
        clusters=_clusters(rows),
    )


def _clusters(rows: Sequence[Record]) -> Integers | None:
    return cluster_places([(row.id, row.group) for row in rows])
