"""What a student is taught after each filter and treatment, for the benchmark of filters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from filter_studies import Fold

from mlxdistill.config.filter import NoiseAction, NoiseScore
from mlxdistill.filters.candidate import Candidate
from mlxdistill.filters.dynamics import Course, Dynamics, read_courses
from mlxdistill.filters.noise import Noise, numbers, opinions
from mlxdistill.filters.out_of_fold import term_features
from mlxdistill.pipeline.treatments import treated
from mlxdistill.statistics.resampling import Floats, Integers
from mlxdistill.store import Decision
from mlxdistill.tasks.protocols import Answer

SHARES = (0.01, 0.05, 0.1)
ACTIONS: tuple[NoiseAction, ...] = get_args(NoiseAction)
SIGNALS: dict[str, tuple[str, NoiseScore]] = {
    "tfidf": ("tfidf", "self_confidence"),
    "tfidf joint": ("tfidf", "confident_joint"),
    "student": ("student", "self_confidence"),
    "dynamics": ("dynamics", "margin"),
}
Features = Callable[[Sequence[str]], Any]


@dataclass(frozen=True)
class Arm:
    """No filter, one that knows the errors, or a signal with the share it names and what becomes of what it names."""

    signal: str
    share: float = 0.0
    action: NoiseAction = "drop"

    @property
    def name(self) -> str:
        return f"{self.signal} {self.share:.0%} {self.action}" if self.share else self.signal


NONE, ORACLE, GOLD = Arm("none"), Arm("oracle"), Arm("gold")


def arms(signals: Sequence[str], shares: Sequence[float] = SHARES) -> Iterator[Arm]:
    """All arms, those to compare with first: `oracle` drops every true error and `gold` teaches gold in its place."""
    yield from (NONE, ORACLE, GOLD)
    for signal in signals:
        for share in shares:
            for action in ACTIONS[:3] if signal == "dynamics" else ACTIONS:
                yield Arm(signal, share, action)


@dataclass(frozen=True)
class Taught:
    """Rows with what each teaches: its answer, and how much it counts."""

    rows: list[Candidate]
    weights: Floats


class Opinions:
    """What speaks for each class in a fold's rows, by the features it is seen from; kept in `cache`.

    Args:
        record: trains a first student of a fold, and writes down how it came to its rows.
    """

    def __init__(
        self, cache: Path, labels: Sequence[str], states: Features, record: Callable[[Fold, Path], None]
    ) -> None:
        self._cache = cache
        self._record = record
        self._labels = labels
        self._features: dict[str, Features] = {"tfidf": term_features, "student": states}

    def __call__(self, fold: Fold, features: str) -> Floats:
        path = self._cache / f"opinions-{features}-{fold.seed}.npy"
        if not path.exists():
            found = opinions(fold.learned, self._labels, self._features[features], fold.seed)
            np.save(path.with_suffix(".tmp.npy"), found)
            path.with_suffix(".tmp.npy").rename(path)
        return np.asarray(np.load(path))

    def courses(self, fold: Fold) -> Mapping[str, Course]:
        path = self._cache / f"dynamics-{fold.seed}.jsonl"
        if not path.exists():
            self._record(fold, path)
        return read_courses(path)


def decide(fold: Fold, arm: Arm, labels: tuple[str, ...], given: Opinions) -> list[Decision]:
    """The filter's decisions about a fold's rows; of those arms that know gold, what gold says."""
    taught = numbers(fold.learned, labels)
    if arm == NONE:
        return [Decision(row.row.id, arm.name, True, "") for row in fold.learned]
    if arm in (ORACLE, GOLD):
        return [
            Decision(row.row.id, arm.name, bool(arm == GOLD or label == gold), "", label=labels[gold])
            for row, label, gold in zip(fold.learned, taught, fold.gold, strict=True)
        ]
    features, score = SIGNALS[arm.signal]
    if arm.signal == "dynamics":
        return list(Dynamics(arm.share, arm.action, labels, given.courses(fold))(fold.learned))
    noise = Noise(arm.share, arm.action, labels, score, seed=fold.seed)
    return list(noise.decide(fold.learned, given(fold, features)))


def named(decisions: Sequence[Decision]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.array([not decision.kept or decision.is_treatment for decision in decisions])


def teach(fold: Fold, decisions: Sequence[Decision], labels: Sequence[str]) -> Taught:
    rows, weights = [], []
    for row, decision in zip(fold.learned, decisions, strict=True):
        if decision.kept and row.answer is not None:
            answer: Answer = treated(row.answer, decision, labels)
            rows.append(Candidate(row.row, answer))
            weights.append(1.0 if decision.weight is None else decision.weight)
    return Taught(rows, np.array(weights))


def detection(fold: Fold, decisions: Sequence[Decision], labels: Sequence[str]) -> dict[str, Any]:
    """How many of the named rows are errors, and how many of the errors are named, of all and by the taught label."""
    taught: Integers = numbers(fold.learned, labels)
    wrong, found = taught != fold.gold, named(decisions)
    return {
        "named": int(found.sum()),
        "precision": float(wrong[found].mean()) if found.any() else None,
        "recall": float(wrong[found].sum() / wrong.sum()),
        "chance": float(wrong.mean()),
        "named by label": {label: int(found[taught == place].sum()) for place, label in enumerate(labels)},
    }
