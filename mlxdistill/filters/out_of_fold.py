"""What a model that never saw a row's label says of it.

The rows are cut into folds. For each, a logistic regression learns the labels of all other rows and gives class
probabilities for these: a label that the rest of the rows contradict is suspect. Rows that belong together (copies, one
customer) are in one fold, or a row's own wrong label would speak for it. The regularisation of each fold's model is
chosen on a part of the rows that it learns from. Nothing but the labels is learned from; gold is never seen.

Memory grows with the characters, those of a text after its first `MOST_CHARACTERS` left out: 5,000 Jigsaw comments
take 6 seconds of one core and 0.3 GB, 100,000 take two and a half minutes and 1.6 GB.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from mlxdistill.statistics.resampling import Floats, Integers, generator

FOLDS = 5
MOST_CHARACTERS = 1000
HASHED_TERMS = 2**18
TERM_PENALTIES = (1.0, 4.0, 16.0)  # inverse strengths of the regularisation that are tried
STATE_PENALTIES = (0.001, 0.01, 0.1)
TUNING_ROWS = 2000


def term_features(texts: Sequence[str]) -> Any:
    """TF-IDF of words, pairs of words, and runs of three and four characters inside words: sparse float32 [n, terms].

    Terms are hashed: no vocabulary is held, which for a million comments would be larger than the matrix. Those of a
    single text say nothing about another, and are left out.
    """
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    hashed: dict[str, Any] = {"n_features": HASHED_TERMS, "alternate_sign": False, "norm": None, "dtype": np.float32}
    kinds: tuple[dict[str, Any], ...] = (
        {"ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"},
        {"ngram_range": (3, 4), "analyzer": "char_wb"},
    )
    cut = [text[:MOST_CHARACTERS] for text in texts]
    parts = []
    for kind in kinds:
        counts = HashingVectorizer(**hashed, **kind).transform(cut)
        shared = np.flatnonzero(np.bincount(counts.indices, minlength=HASHED_TERMS) > 1)
        if len(shared):
            parts.append(TfidfTransformer(sublinear_tf=True).fit_transform(counts[:, shared]))
    return hstack(parts, format="csr", dtype=np.float32) if parts else csr_matrix((len(texts), 0), dtype=np.float32)


def out_of_fold(features: Any, taught: Integers, labels: int, groups: Integers, seed: int) -> Floats:
    """Class probabilities [n, labels], each row's from a model that learned from other groups of rows only.

    Args:
        features: [n, d], sparse (`term_features`) or dense (hidden states).
        taught: [n], the number of each row's label.
        groups: [n], the same number for rows that belong together.

    Returns NaN for rows nothing can be said about: those of a label that is in fewer groups than there are folds; all,
    where there is no second label, or no feature.
    """
    found = np.full((len(taught), labels), np.nan)
    judged = [label for label in range(labels) if len(np.unique(groups[taught == label])) >= FOLDS]
    if len(judged) < 2 or not features.shape[1]:
        return found
    if not _is_sparse(features):
        spread = features.std(axis=0)
        features = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1)
    fold_of = folds(taught, groups, seed)
    for fold in range(FOLDS):
        inside, outside = np.flatnonzero(fold_of == fold), np.flatnonzero(fold_of != fold)
        learned = outside[np.isin(taught[outside], judged)]
        if len(np.unique(taught[learned])) < 2:
            continue
        shares = _tuned(features, taught, learned, groups, seed).predict_proba(features[inside])
        found[inside] = 0.0
        found[np.ix_(inside, np.unique(taught[learned]))] = shares
    found[~np.isin(taught, judged)] = np.nan
    return found


def folds(taught: Integers, groups: Integers, seed: int) -> Integers:
    """The fold of each row: whole groups, each label spread evenly over the folds."""
    _, first, place, size = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    shuffled = generator(seed).permutation(len(first))
    # The groups of one label are dealt out one after another, large ones first.
    order = shuffled[np.lexsort((-size[shuffled], taught[first][shuffled]))]
    fold_of_group = np.empty(len(first), np.int64)
    fold_of_group[order] = np.arange(len(first)) % FOLDS
    return np.asarray(fold_of_group[place])


def _tuned(features: Any, taught: Integers, rows: Integers, groups: Integers, seed: int) -> Any:
    """A model of the rows, with the penalty under which a part of them foretells the rest best."""
    part = rows
    if len(rows) > TUNING_ROWS:
        part = np.sort(generator(seed).choice(rows, TUNING_ROWS, replace=False))
    held = folds(taught[part], groups[part], seed) == 0
    learned, asked = part[~held], part[held]
    penalties = TERM_PENALTIES if _is_sparse(features) else STATE_PENALTIES
    if len(np.unique(taught[learned])) < 2:  # a rare label that no drawn row has
        return _fitted(features, taught, rows, penalties[1])
    losses = [_loss(_fitted(features, taught, learned, penalty), features, taught, asked) for penalty in penalties]
    return _fitted(features, taught, rows, penalties[int(np.argmin(losses))])


def _loss(model: Any, features: Any, taught: Integers, rows: Integers) -> float:
    places = {label: place for place, label in enumerate(model.classes_)}
    known = np.array([row for row in rows if taught[row] in places])
    if not len(known):
        return 0.0
    shares = model.predict_proba(features[known])
    own = shares[np.arange(len(known)), [places[label] for label in taught[known]]]
    return float(-np.log(np.maximum(own, 1e-12)).mean())


def _fitted(features: Any, taught: Integers, rows: Integers, penalty: float) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    model: Any = LogisticRegression(C=penalty, solver="liblinear", max_iter=500)
    if len(np.unique(taught[rows])) > 2:
        model = OneVsRestClassifier(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # what it found by then ranks rows as well
        return model.fit(features[rows], taught[rows])


def _is_sparse(features: Any) -> bool:
    return not isinstance(features, np.ndarray)
