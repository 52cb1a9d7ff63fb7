"""What a student must beat to be worth its while.

On a test set where nine rows of ten are `ok`, always answering `ok` scores 90 %. A linear model on words trains in
seconds and is sometimes as good as a fine-tuned student. Both learn from the rows and labels that the student learned
from, so that a difference is the student's doing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mlxdistill.errors import DataError
from mlxdistill.evaluation.records import SystemAnswers
from mlxdistill.statistics.resampling import Floats
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row

# lbfgs keeps some twenty copies of the coefficients (labels x words); this bounds them to about 1 GB at 150 labels.
MOST_TERMS = 50_000


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """A row the student was trained on: its text, the label it taught, its gold label if it has one, and how much it
    counted beside others."""

    text: str
    label: str
    gold: str | None = None
    weight: float = 1.0


class Baseline(Protocol):
    """A trained baseline: texts to class probabilities (n, K) in the task's order of labels."""

    def __call__(self, texts: Sequence[str]) -> Floats: ...


def baseline_answers(
    names: Sequence[str],
    training: Sequence[TrainingRow],
    sets: Mapping[str, Sequence[Row]],
    labels: Sequence[str],
    seed: int = 0,
) -> dict[str, SystemAnswers]:
    """The answers of the baselines that were asked for, by system name.

    Args:
        names: of `majority` and `tfidf_logreg`; other names are left to whoever answers them.
        training: what the student was trained on. Where two of its rows or more have gold, `tfidf_logreg` comes with
            `tfidf_logreg_gold`, the same model taught by gold: it shows what the teacher's errors cost.
        labels: the task's, in order.

    Raises DataError without training rows, and for a training label that is not in `labels`.
    """
    if not training:
        raise DataError("there are no training rows to teach the baselines", hint="run label and filter first")
    for row in training:
        if row.label not in labels:
            raise DataError(f"the training label {row.label!r} is not a label of the task", hint="run label again")
    texts, taught = [row.text for row in training], [row.label for row in training]
    weights = [row.weight for row in training]
    found: dict[str, SystemAnswers] = {}
    if "majority" in names:
        found["majority"] = _answers(majority(taught, labels), sets, labels)
    if "tfidf_logreg" in names:
        found["tfidf_logreg"] = _answers(tfidf_logreg(texts, taught, labels, seed, weights), sets, labels)
        gold = [(row.text, row.gold) for row in training if row.gold is not None and row.gold in labels]
        if len(gold) >= 2:
            model = tfidf_logreg([text for text, _ in gold], [label for _, label in gold], labels, seed)
            found["tfidf_logreg_gold"] = _answers(model, sets, labels)
    return found


def majority(taught: Sequence[str], labels: Sequence[str]) -> Baseline:
    """Always the most frequent training label (the task's first of equals); each label's share is its probability."""
    counts = Counter(taught)
    shares = np.array([counts[label] / len(taught) for label in labels])

    def answer(texts: Sequence[str]) -> Floats:
        return np.tile(shares, (len(texts), 1))

    return answer


def tfidf_logreg(
    texts: Sequence[str],
    taught: Sequence[str],
    labels: Sequence[str],
    seed: int = 0,
    weights: Sequence[float] | None = None,
) -> Baseline:
    """TF-IDF of words and pairs of words into a multinomial logistic regression.

    Labels that training never saw get probability 0. With a single label, or without any word, it is the majority.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    if len(set(taught)) < 2:
        return majority(taught, labels)
    vectorizer: Any = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", max_features=MOST_TERMS
    )
    try:
        features = vectorizer.fit_transform(texts)
    except ValueError as error:
        if "empty vocabulary" not in str(error):
            raise
        return majority(taught, labels)
    model: Any = LogisticRegression(max_iter=1000, random_state=seed).fit(features, taught, sample_weight=weights)
    places = [labels.index(label) for label in model.classes_]

    def answer(texts: Sequence[str]) -> Floats:
        shares = np.zeros((len(texts), len(labels)))
        if texts:
            shares[:, places] = model.predict_proba(vectorizer.transform(texts))
        return shares

    return answer


def _answers(model: Baseline, sets: Mapping[str, Sequence[Row]], labels: Sequence[str]) -> SystemAnswers:
    answers: dict[str, dict[str, Answer]] = {}
    started = time.perf_counter()
    for name, rows in sets.items():
        shares = model([row.text for row in rows])
        answers[name] = {
            row.id: Answer(row.id, labels[int(share.argmax())], tuple(float(p) for p in share))
            for row, share in zip(rows, shares, strict=True)
        }
    seconds = time.perf_counter() - started
    count = sum(len(rows) for rows in sets.values())
    return SystemAnswers(answers, rows_per_second=count / seconds if count else None)
