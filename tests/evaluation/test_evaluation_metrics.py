import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    recall_score,
    roc_auc_score,
)

from mlxdistill.evaluation import metrics


@st.composite
def answers(draw):
    """(labels, reference, predicted) with up to 5 labels, some of which may not occur."""
    labels = draw(st.integers(2, 5))
    rows = draw(st.integers(1, 60))
    place = st.integers(0, labels - 1)
    reference = draw(st.lists(place, min_size=rows, max_size=rows))
    predicted = draw(st.lists(st.integers(0, labels), min_size=rows, max_size=rows))
    return labels, np.array(reference), np.array(predicted)


@settings(deadline=None)
@given(answers())
def test_confusion_is_scikit_learns_with_a_column_for_unparsable_answers(case):
    labels, reference, predicted = case
    ours = metrics.confusion_matrix(reference, predicted, labels)
    theirs = confusion_matrix(reference, predicted, labels=range(labels + 1))
    np.testing.assert_array_equal(ours, theirs[:labels])


@settings(deadline=None)
@given(answers())
def test_label_scores_are_scikit_learns(case):
    labels, reference, predicted = case
    m = metrics.margins(metrics.confusion_matrix(reference, predicted, labels))
    precision, recall, f1, _ = precision_recall_fscore_support(
        reference, predicted, labels=range(labels), zero_division=np.nan
    )
    assert float(metrics.accuracy(m)) == pytest.approx(accuracy_score(reference, predicted))
    np.testing.assert_allclose(metrics.precision(m), precision)
    np.testing.assert_allclose(metrics.recall(m), recall)
    np.testing.assert_allclose(metrics.f1(m), f1)
    occurring = np.union1d(reference, predicted[predicted < labels])
    expected = f1_score(reference, predicted, labels=occurring, average="macro", zero_division=0)
    assert float(metrics.macro_f1(m)) == pytest.approx(expected)


@settings(deadline=None)
@given(answers())
def test_balanced_accuracy_is_scikit_learns_mean_recall_of_the_classes_that_occur(case):
    labels, reference, predicted = case
    m = metrics.margins(metrics.confusion_matrix(reference, predicted, labels))
    expected = recall_score(reference, predicted, labels=np.unique(reference), average="macro")
    assert float(metrics.balanced_accuracy(m)) == pytest.approx(expected)
    if set(predicted) <= set(reference) and len(set(reference)) > 1:
        assert float(metrics.balanced_accuracy(m)) == pytest.approx(balanced_accuracy_score(reference, predicted))


def test_a_batch_of_matrices_is_scored_like_each_of_them():
    confusions = np.random.default_rng(0).integers(0, 5, size=(7, 3, 4))
    for measure in (metrics.accuracy, metrics.balanced_accuracy, metrics.macro_f1, metrics.f1, metrics.recall):
        batch = measure(metrics.margins(confusions))
        for confusion, value in zip(confusions, batch, strict=True):
            np.testing.assert_array_equal(measure(metrics.margins(confusion)), value)


def _probabilities(rng, rows, labels, ties):
    shares = rng.dirichlet(np.ones(labels), size=rows)
    if ties:
        shares = np.round(shares * 4) + 0.5
        shares /= shares.sum(axis=1, keepdims=True)
    return shares


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), st.integers(2, 80), st.booleans(), st.integers(0, 10_000))
def test_auroc_is_scikit_learns_mean_over_the_classes_that_occur(labels, rows, ties, seed):
    rng = np.random.default_rng(seed)
    reference = rng.integers(0, labels, size=rows)
    shares = _probabilities(rng, rows, labels, ties)
    found = metrics.auroc_placements(reference, shares)
    occurring = np.unique(reference)
    if len(occurring) < 2:
        assert found is None
        return
    curves = [1] if labels == 2 else occurring
    expected = np.mean([roc_auc_score(reference == label, shares[:, label]) for label in curves])
    value, influence = found
    assert value == pytest.approx(expected)
    assert influence.sum() == pytest.approx(0, abs=1e-12)
    if labels > 2 and len(occurring) == labels:
        assert value == pytest.approx(roc_auc_score(reference, shares, multi_class="ovr"))


def test_delong_variance_is_that_of_the_auroc_over_many_samples():
    rng = np.random.default_rng(3)
    values, variances = [], []
    for _ in range(400):
        reference = (rng.random(150) < 0.3).astype(int)
        scores = 1 / (1 + np.exp(-(rng.normal(size=150) + 1.2 * reference)))
        value, influence = metrics.auroc_placements(reference, np.column_stack([1 - scores, scores]))
        values.append(value)
        variances.append((influence**2).sum())
    assert np.mean(variances) == pytest.approx(np.var(values), rel=0.2)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), st.integers(1, 60), st.integers(0, 10_000))
def test_brier_is_scikit_learns(labels, rows, seed):
    rng = np.random.default_rng(seed)
    reference = rng.integers(0, labels, size=rows)
    shares = _probabilities(rng, rows, labels, ties=False)
    ours = metrics.brier_rows(reference, shares).mean()
    if labels == 2:
        assert ours == pytest.approx(2 * brier_score_loss(reference, shares[:, 1], pos_label=1))
    else:
        expected = brier_score_loss(reference, shares, labels=list(range(labels)), scale_by_half=False)
        assert ours == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), st.integers(1, 80), st.booleans(), st.integers(0, 10_000))
def test_ece_is_the_sum_over_bins(labels, rows, ties, seed):
    rng = np.random.default_rng(seed)
    reference = rng.integers(0, labels, size=rows)
    shares = _probabilities(rng, rows, labels, ties)
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == reference
    expected = 0.0
    for number in range(15):
        inside = (confidence * 15 > number) & (confidence * 15 <= number + 1)
        if inside.any():
            expected += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert metrics.expected_calibration_error(reference, shares) == pytest.approx(expected)


def test_ece_of_certain_answers_is_their_error_rate():
    shares = np.eye(2)[[0, 0, 1, 1]]
    assert metrics.expected_calibration_error(np.array([0, 1, 1, 1]), shares) == 0.25
