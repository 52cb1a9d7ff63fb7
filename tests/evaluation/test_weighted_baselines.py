"""A baseline learns each row as much as the student does."""

from __future__ import annotations

import numpy as np

from mlxdistill.evaluation.baselines import TrainingRow, baseline_answers
from mlxdistill.tasks.rows import Row

ROWS = [("good fine", "ok"), ("bad awful", "bad"), ("so so", "ok"), ("so so", "bad")] * 5


def shares(weights: dict[str, float]) -> np.ndarray:
    """Of the text that was labelled both ways."""
    taught = [
        TrainingRow(text, label, weight=weights.get(label, 1.0) if text == "so so" else 1.0) for text, label in ROWS
    ]
    found = baseline_answers(["tfidf_logreg"], taught, {"set": [Row("a", "so so")]}, ("ok", "bad"))
    return np.array(found["tfidf_logreg"].answers["set"]["a"].probabilities)


def test_a_row_of_less_weight_says_less() -> None:
    assert np.allclose(shares({}), 0.5, atol=0.01)
    assert shares({"bad": 0.1})[0] > 0.6
    assert shares({"ok": 0.1})[1] > 0.6
