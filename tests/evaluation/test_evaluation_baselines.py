import numpy as np
import pytest

from mlxdistill.errors import DataError
from mlxdistill.evaluation.baselines import TrainingRow, baseline_answers, majority, tfidf_logreg
from mlxdistill.tasks.rows import Row

LABELS = ("ok", "toxic", "spam")
WORDS = {"ok": "thanks kind regards", "toxic": "idiot stupid fool", "spam": "buy cheap pills"}


def training(rng, labels, count=60, gold=None):
    rows = []
    for _ in range(count):
        label = labels[rng.integers(len(labels))]
        text = " ".join(rng.permutation([*WORDS[label].split(), "the", "and"]))
        rows.append(TrainingRow(text, label, gold(label) if gold else None))
    return rows


SETS = {"test_balanced": [Row(f"r{number}", WORDS[label]) for number, label in enumerate(("ok", "toxic", "spam"))]}


def test_majority_answers_the_most_frequent_label_with_the_labels_shares():
    rows = [TrainingRow("a", "toxic"), TrainingRow("b", "toxic"), TrainingRow("c", "ok")]
    answers = baseline_answers(["majority"], rows, SETS, LABELS)["majority"].answers["test_balanced"]
    assert {answer.label for answer in answers.values()} == {"toxic"}
    assert answers["r0"].probabilities == pytest.approx((1 / 3, 2 / 3, 0.0))
    assert majority(["toxic", "ok"], LABELS)(["x"]).argmax() == 0


def test_tfidf_learns_words_and_repeats_itself():
    rows = training(np.random.default_rng(0), LABELS)
    found = baseline_answers(["tfidf_logreg"], rows, SETS, LABELS)
    assert set(found) == {"tfidf_logreg"}
    answers = found["tfidf_logreg"].answers["test_balanced"]
    assert [answers[f"r{number}"].label for number in range(3)] == ["ok", "toxic", "spam"]
    assert sum(answers["r0"].probabilities) == pytest.approx(1)
    assert found["tfidf_logreg"].rows_per_second > 0
    again = baseline_answers(["tfidf_logreg"], rows, SETS, LABELS)["tfidf_logreg"].answers
    assert again == found["tfidf_logreg"].answers


def test_a_label_that_training_never_saw_has_probability_zero_in_its_place():
    rows = training(np.random.default_rng(0), ("spam", "ok"))
    shares = tfidf_logreg([row.text for row in rows], [row.label for row in rows], LABELS)(["buy pills"])
    assert shares.shape == (1, 3)
    assert shares[0, 1] == 0
    assert shares[0].argmax() == 2


def test_a_single_training_label_is_always_answered():
    shares = tfidf_logreg(["one", "two"], ["toxic", "toxic"], LABELS)(["one", "three"])
    assert shares.tolist() == [[0, 1, 0], [0, 1, 0]]


def test_texts_without_a_word_fall_back_to_the_majority():
    shares = tfidf_logreg(["...", "!", "?"], ["ok", "toxic", "toxic"], LABELS)(["!!"])
    assert shares[0] == pytest.approx([1 / 3, 2 / 3, 0])


def test_gold_teaches_a_baseline_of_its_own():
    swap = {"ok": "toxic", "toxic": "ok", "spam": "spam"}
    rows = training(np.random.default_rng(1), LABELS, gold=swap.get)
    found = baseline_answers(["tfidf_logreg"], rows, SETS, LABELS)
    assert found["tfidf_logreg"].answers["test_balanced"]["r0"].label == "ok"
    assert found["tfidf_logreg_gold"].answers["test_balanced"]["r0"].label == "toxic"


def test_empty_sets_and_other_names_are_no_trouble():
    rows = training(np.random.default_rng(0), LABELS)
    found = baseline_answers(["majority", "tfidf_logreg", "student_base"], rows, {"test_indist": []}, LABELS)
    assert set(found) == {"majority", "tfidf_logreg"}
    assert found["tfidf_logreg"].answers == {"test_indist": {}}
    assert found["tfidf_logreg"].rows_per_second is None


def test_without_training_rows_the_mend_is_named():
    with pytest.raises(DataError, match="no training rows") as caught:
        baseline_answers(["majority"], [], SETS, LABELS)
    assert "label" in caught.value.hint


def test_a_training_label_of_another_task_is_refused():
    with pytest.raises(DataError, match="'maybe' is not a label"):
        baseline_answers(["majority"], [TrainingRow("a", "maybe")], SETS, LABELS)
