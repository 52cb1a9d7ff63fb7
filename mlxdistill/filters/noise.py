"""Finds labels that are likely wrong, without gold: other rows' labels speak against them.

Out-of-fold class probabilities (`out_of_fold`) give every label a score, and the worst are named: confident learning
(Northcutt, Jiang and Chuang: Confident Learning, Estimating Uncertainty in Dataset Labels, JAIR 2021). Where the
teacher gave class probabilities of its own, the two opinions are multiplied: each is wrong in other rows.

Only rows are named of which another label is likelier, or whose confident joint lies off the diagonal, so `share` is
the most that is named, not what is named whatever the labels are like. What then happens to a named row is `treatment`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlxdistill.config.filter import NoiseAction, NoiseScore
from mlxdistill.filters.candidate import Candidate
from mlxdistill.filters.out_of_fold import out_of_fold, term_features
from mlxdistill.filters.treatment import named_rows, treat
from mlxdistill.statistics.resampling import Floats, Integers
from mlxdistill.store import Decision
from mlxdistill.tasks.rows import normalised
from mlxdistill.text.near_duplicates import near_duplicates

NAME = "noise"
SIMILAR = 0.8  # Jaccard similarity from which texts are one for the folds
LEAST_SHARE = 1e-4  # of a class by the teacher: a rounded 0 must not outweigh everything else


@dataclass(frozen=True, slots=True)
class Noise:
    """Names at most `share` of the labelled rows, and drops or treats them.

    Attributes:
        labels: of the task, in the order of class probabilities.
        features: of rows' texts, for the logistic regression: [n, d]; default: TF-IDF.
        seed: of the folds.
    """

    share: float
    action: NoiseAction
    labels: tuple[str, ...]
    score: NoiseScore = "self_confidence"
    features: Callable[[Sequence[str]], NDArray[np.float32]] | None = None
    seed: int = 0

    def __call__(self, candidates: Iterable[Candidate]) -> Iterator[Decision]:
        rows = list(candidates)
        labelled = [row for row in rows if _label(row) is not None]
        shares = opinions(labelled, self.labels, self.features or term_features, self.seed)
        decided = dict(zip((row.row.id for row in labelled), self.decide(labelled, shares), strict=True))
        for row in rows:
            yield decided.get(row.row.id) or Decision(row.row.id, NAME, True, "no label to doubt")

    def decide(self, labelled: Sequence[Candidate], shares: Floats) -> Iterator[Decision]:
        """The decisions about rows with labels, given what speaks for each class: see `opinions`."""
        taught = numbers(labelled, self.labels)
        scores, suspect = label_scores(shares, taught, self.score)
        suspect &= ~np.array([row.by_person for row in labelled], bool)
        named = named_rows(scores, suspect, taught, self.share, per_class=self.action == "drop_per_class")
        for row, score, opinion, is_named in zip(labelled, scores.tolist(), shares, named, strict=True):
            if np.isnan(score):
                yield Decision(row.row.id, NAME, True, "too few rows of its label to judge it by")
            elif not is_named:
                yield Decision(row.row.id, NAME, True, "not among the likely mislabelled", score)
            else:
                said = dict(zip(self.labels, opinion.tolist(), strict=True))
                reason = f"likely {max(said, key=lambda label: said[label])}, by the labels of other rows"
                trust = said[_label(row) or ""]
                yield treat(Decision(row.row.id, NAME, True, reason, score), self.action, trust=trust, opinion=said)


def _label(row: Candidate) -> str | None:
    return None if row.answer is None else row.answer.label


def numbers(labelled: Sequence[Candidate], labels: Sequence[str]) -> Integers:
    """The place of each row's label in `labels`."""
    return np.array([labels.index(_label(row) or "") for row in labelled], np.int64)


def opinions(
    labelled: Sequence[Candidate], labels: Sequence[str], features: Callable[[Sequence[str]], Any], seed: int
) -> Floats:
    """Class probabilities [n, labels]: out of fold, times the teacher's own; NaN where nothing can be said."""
    if len(labelled) < 2:
        return np.full((len(labelled), len(labels)), np.nan)
    given = features([row.row.text for row in labelled])
    shares = out_of_fold(given, numbers(labelled, labels), len(labels), together(labelled), seed)
    for place, row in enumerate(labelled):
        if row.answer is not None and row.answer.probabilities is not None and not row.by_person:
            shares[place] *= np.maximum(row.answer.probabilities, LEAST_SHARE)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def together(rows: Sequence[Candidate]) -> Integers:
    """The same number for rows that must be in one fold: nearly the same texts, and those of one group."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    count = len(rows)
    first: dict[str, int] = {}
    groups = [
        place if row.row.meta.get("group") is None else first.setdefault(str(row.row.meta["group"]), place)
        for place, row in enumerate(rows)
    ]
    alike = near_duplicates((normalised(row.row.text) for row in rows), SIMILAR)
    ends = np.concatenate([np.array(groups, np.int64), alike])
    pairs = coo_matrix((np.ones(2 * count, np.int8), (np.tile(np.arange(count), 2), ends)), shape=(count, count))
    return np.asarray(connected_components(pairs, directed=False)[1], np.int64)


def label_scores(shares: Floats, taught: Integers, score: NoiseScore) -> tuple[Floats, NDArray[np.bool_]]:
    """How well each label is spoken for, and which rows are spoken against.

    Args:
        shares: class probabilities [n, labels]; rows of NaN have the score NaN, and are not spoken against.
        score: `self_confidence`, the probability of the row's label; `margin`, that minus the largest other;
            `confident_joint`, the margin too, of rows that lie off the diagonal of the confident joint: another label
            has at least the probability it has, on average, where it is taught.
    """
    rows = np.arange(len(taught))
    others = shares.copy()
    own = shares[rows, taught]
    others[rows, taught] = -np.inf
    known = ~np.isnan(own)
    margin = own - np.max(others, axis=1, initial=-np.inf)
    if score != "confident_joint":
        return (own if score == "self_confidence" else margin), known & (margin < 0)
    usual = np.array(
        [
            shares[known & (taught == label), label].mean() if (known & (taught == label)).any() else np.inf
            for label in range(shares.shape[1])
        ]
    )
    confident = np.where(shares >= usual, shares, -np.inf)
    chosen = confident.argmax(axis=1)
    return margin, known & np.isfinite(confident.max(axis=1, initial=-np.inf)) & (chosen != taught)
