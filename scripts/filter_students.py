"""The students that the benchmark of filters teaches: TF-IDF with logistic regression, and the product's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from filter_arms import Taught
from filter_studies import Fold, GoldSet, Study

from mlxdistill.config.models import Config
from mlxdistill.evaluation.baselines import MOST_TERMS
from mlxdistill.filters.noise import numbers
from mlxdistill.pipeline.stage import task_of
from mlxdistill.pipeline.train import predict_request, student_prompt, train_request
from mlxdistill.rundir.layout import RunDir
from mlxdistill.statistics.resampling import Floats
from mlxdistill.student.dataset import write_training_files
from mlxdistill.student.predictor import StudentPredictor
from mlxdistill.student.trainer import train_student
from mlxdistill.tasks.rows import Row

RECORDED_EPOCHS = 3
Answers = dict[str, Floats]
"""Of each set the class probabilities [rows, labels]."""


class Silent:
    """Implements `tasks.protocols.Progress`."""

    def advance(self, done: int, total: int, **figures: float) -> None: ...

    def note(self, message: str) -> None: ...


def measured_on(study: Study, fold: Fold) -> dict[str, GoldSet]:
    return {"validation": fold.validation, **study.tests}


class TfidfStudent:
    """The evaluation's baseline, with classes that count the same.

    What words there are does not depend on the filter, so texts are turned into numbers once a fold.
    """

    def __init__(self, study: Study, fold: Fold) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._labels = study.labels
        vectorizer = TfidfVectorizer(
            ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", max_features=MOST_TERMS
        )
        self._learned = vectorizer.fit_transform([row.row.text for row in fold.learned])
        self._places = {row.row.id: place for place, row in enumerate(fold.learned)}
        self._sets = {
            name: vectorizer.transform([row.text for row in rows.rows])
            for name, rows in measured_on(study, fold).items()
        }

    def __call__(self, taught: Taught, name: str) -> Answers:
        from sklearn.linear_model import LogisticRegression

        places, labels, weights = self._shares(taught)
        totals = np.bincount(labels, weights, minlength=len(self._labels))
        weights = weights * (weights.sum() / np.count_nonzero(totals) / totals[labels])
        model: Any = LogisticRegression(max_iter=1000, solver="liblinear" if len(self._labels) == 2 else "lbfgs")
        model.fit(self._learned[places], labels, sample_weight=weights)
        found = {}
        for name, features in self._sets.items():
            found[name] = np.zeros((features.shape[0], len(self._labels)))
            found[name][:, model.classes_] = model.predict_proba(features)
        return found

    def _shares(self, taught: Taught) -> tuple[Any, Any, Floats]:
        """Rows with several likely labels are learned once with each, by its probability."""
        own = numbers(taught.rows, self._labels)
        shares = np.eye(len(self._labels))[own]
        for place, row in enumerate(taught.rows):
            if row.answer is not None and row.answer.probabilities is not None:
                shares[place] = row.answer.probabilities
        rows, labels = np.nonzero(shares > 0)
        places = np.array([self._places[row.row.id] for row in taught.rows])
        return places[rows], labels, shares[rows, labels] * taught.weights[rows]


class MlxStudent:
    """The product's student, trained as `train` trains it, each in a folder that is gone when it has answered."""

    def __init__(self, study: Study, fold: Fold, folder: Path, settings: dict[str, Any]) -> None:
        self._study = study
        self._fold = fold
        self._folder = folder
        self._config = student_config(study.config, fold.seed, settings)

    def record(self, path: Path) -> None:
        """Trains on all rows of the fold, for so many epochs that their course says something."""
        train = {**self._config.train.model_dump(), "epochs": RECORDED_EPOCHS, "record_dynamics": True}
        self._config = self._config.model_copy(update={"train": type(self._config.train).model_validate(train)})
        run = self._trained(Taught(self._fold.learned, np.ones(len(self._fold.learned))), path.stem)
        run.dynamics.rename(path)
        shutil.rmtree(run.path)

    def _trained(self, taught: Taught, name: str) -> RunDir:
        run = RunDir(self._folder.absolute() / name)
        rows = [row.row for row in taught.rows]
        answers = {row.row.id: row.answer for row in (*taught.rows, *self._fold.selection) if row.answer is not None}
        weights = {row.id: float(weight) for row, weight in zip(rows, taught.weights, strict=True) if weight != 1}
        write_training_files(
            run.student_data,
            task_of(self._config),
            student_prompt(self._config),
            rows,
            [row.row for row in self._fold.selection],
            answers,
            weights=weights,
        )
        train_student(train_request(self._config, run), Silent(), lambda report: None)
        return run

    def __call__(self, taught: Taught, name: str) -> Answers:
        """`name`: of the folder, so that a training that was stopped goes on."""
        run = self._trained(taught, name)
        sets = measured_on(self._study, self._fold)
        texts = list(dict.fromkeys(row.text for measured in sets.values() for row in measured.rows))
        asked = [Row(str(place), text) for place, text in enumerate(texts)]  # the sets share comments
        with StudentPredictor(predict_request(self._config, run.adapters), Silent()) as student:
            given = [answer.probabilities for wave in student.predict(asked, Silent()) for answer in wave]
        shutil.rmtree(run.path)
        by_text = dict(zip(texts, given, strict=True))
        return {name: np.array([by_text[row.text] for row in measured.rows]) for name, measured in sets.items()}


def student_config(config: Config, seed: int, settings: dict[str, Any]) -> Config:
    """The study's, with the seed, and settings of `student` and `train`."""
    tree = json.loads(config.model_dump_json(include={"student", "train"}))
    train = {**tree["train"], "seed": seed, **settings.get("train", {})}
    student = {**tree["student"], **settings.get("student", {})}
    return config.model_copy(
        update={
            "train": type(config.train).model_validate(train),
            "student": type(config.student).model_validate(student),
        }
    )


def states_of(study: Study, cache: Path) -> dict[str, Any]:
    """The hidden states of every row's text before any training, by text; kept in `cache`."""
    from mlxdistill.student.embedding import embed

    path = cache / "states.npy"
    texts = [row.row.text for row in study.candidates]
    if not path.exists():
        rows = [(row.row.id, row.row.text) for row in study.candidates]
        np.save(path.with_suffix(".tmp.npy"), embed(predict_request(study.config, None), rows, Silent()))
        path.with_suffix(".tmp.npy").rename(path)
    return dict(zip(texts, np.load(path), strict=True))
