"""Which rows of a large pool to label, where not all can be.

A pilot drawn by chance is labelled first. A quick model (TF-IDF of words, logistic regression), fitted on the answers
so far, then says how likely each label is for each other row, and the next rows are those most likely to have the
labels that are still missing: all labels are wanted equally often. After them the model is fitted again, for a round as
large as all before it.

Tried on validation rows (`scripts/bench_budget.py --choose`) and dropped: one round instead of several, which finds
about half as many rare rows; the rows that the model is least sure of, which find more rare rows still but teach many
classes worse; rows far from each other, which are mostly odd ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlxdistill.statistics.resampling import generator

FEWEST_ROWS = 50  # of a pilot or a round
PILOT_SHARE = 0.2
MOST_TERMS = 50_000


def pilot_rows(budget: int) -> int:
    """How many rows of a budget are drawn by chance."""
    return min(budget, max(FEWEST_ROWS, round(PILOT_SHARE * budget)))


def round_rows(labelled: int, budget: int) -> int:
    """How many rows come next, after so many of a budget."""
    return min(budget - labelled, max(FEWEST_ROWS, labelled))


def draw_pilot(texts: int, budget: int, seed: int) -> list[int]:
    """The places of the pilot's rows among so many texts."""
    drawn: list[int] = generator(seed).permutation(texts)[: pilot_rows(budget)].tolist()
    return drawn


class Chooser:
    """Chooses among texts, round by round.

    Args:
        texts: those labelled already and those that may be.
    """

    def __init__(self, texts: Sequence[str], seed: int) -> None:
        self._order = generator(seed + 1).permutation(len(texts))
        self._features = _features(texts)

    def next(self, labels: Mapping[int, str | None], count: int) -> list[int]:
        """The places of `count` more texts, the most wanted first.

        Args:
            labels: place -> label of the texts labelled already; None where the answer named none.
        """
        rest = np.array([place for place in self._order if place not in labels], dtype=np.int64)
        known = {place: label for place, label in sorted(labels.items()) if label is not None}
        if len(rest) <= count or len(set(known.values())) < 2 or self._features is None:
            return [int(place) for place in rest[:count]]
        classes, likely = self._likely(known, rest)
        quotas = _quotas(Counter(known.values()), classes, count)
        return [int(place) for place in rest[self.pick(likely, quotas)]]

    def pick(self, likely: NDArray[np.float64], quotas: Sequence[int]) -> list[int]:
        """Rows of `likely` (rows, labels), for each label as many as its quota, the most wanted of each first."""
        free = np.ones(len(likely), dtype=np.bool_)
        wanted: list[tuple[float, int]] = []
        for number in sorted(range(len(quotas)), key=lambda number: quotas[number], reverse=True):
            rows = np.flatnonzero(free)
            best = rows[np.argsort(-likely[rows, number], kind="stable")[: quotas[number]]]
            free[best] = False
            wanted += [((rank + 0.5) / quotas[number], int(row)) for rank, row in enumerate(best)]
        return [row for _, row in sorted(wanted)]

    def _likely(self, known: Mapping[int, str], rest: NDArray[np.int64]) -> tuple[list[str], NDArray[np.float64]]:
        """The labels, and how likely each is: (rest, labels). They weigh the same, however rare."""
        from sklearn.linear_model import LogisticRegression

        model: Any = LogisticRegression(C=10.0, max_iter=200, class_weight="balanced")
        model.fit(self._features[list(known)], list(known.values()))
        return [str(name) for name in model.classes_], model.predict_proba(self._features[rest])


def _features(texts: Sequence[str]) -> Any:
    """A sparse matrix (texts, terms), or None where no text has a word."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer: Any = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", max_features=MOST_TERMS
    )
    try:
        return vectorizer.fit_transform(texts)
    except ValueError as error:
        if "empty vocabulary" not in str(error):
            raise
        return None


def _quotas(known: Counter[str], classes: Sequence[str], count: int) -> list[int]:
    """How many more rows of each label make all of them equally frequent, as far as `count` goes."""
    target = (known.total() + count) / len(classes)
    missing = np.array([max(0.0, target - known[name]) for name in classes])
    shares = missing / missing.sum() * count
    quotas = np.floor(shares).astype(np.int64)
    quotas[np.argsort(quotas - shares, kind="stable")[: count - int(quotas.sum())]] += 1
    return [int(quota) for quota in quotas]
