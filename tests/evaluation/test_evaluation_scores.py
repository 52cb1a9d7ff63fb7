import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdistill.evaluation import metrics
from mlxdistill.evaluation.samples import Sample
from mlxdistill.evaluation.scores import Resampling, score
from mlxdistill.statistics.intervals import Z, wilson_ends

FEW = Resampling(200, 0)


def sample_of(reference, predicted, labels=2, probabilities=None, clusters=None):
    rows = np.arange(len(reference)) if probabilities is not None else np.array([], dtype=np.int64)
    shares = np.zeros((0, labels)) if probabilities is None else np.asarray(probabilities, dtype=float)
    return Sample(
        labels,
        np.asarray(reference, dtype=np.int64),
        np.asarray(predicted, dtype=np.int64),
        rows,
        shares,
        None if clusters is None else np.asarray(clusters),
    )


def intervals_in(entry):
    """Every interval of an entry of metrics.json."""
    if isinstance(entry, dict):
        if "ci" in entry:
            yield entry
        for value in entry.values():
            yield from intervals_in(value)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_answers_give_valid_json_and_intervals_that_hold_their_value(data):
    labels = data.draw(st.integers(2, 4))
    rows = data.draw(st.integers(0, 12))
    reference = data.draw(st.lists(st.integers(0, labels - 1), min_size=rows, max_size=rows))
    predicted = data.draw(st.lists(st.integers(0, labels), min_size=rows, max_size=rows))
    groups = data.draw(st.none() | st.lists(st.integers(0, 3), min_size=rows, max_size=rows))
    clusters = np.unique(groups, return_inverse=True)[1] if groups else None
    shares = None
    if data.draw(st.booleans()):
        shares = np.random.default_rng(rows).dirichlet(np.ones(labels), size=rows)
    names = [f"label {place}" for place in range(labels)]
    entry = score(sample_of(reference, predicted, labels, shares, clusters), names, Resampling(100, 0))
    json.dumps(entry, allow_nan=False)
    assert entry["answered"] == rows
    assert entry["unparsable"] == sum(place == labels for place in predicted)
    for interval in intervals_in(entry):
        if interval["ci"] is not None:
            assert interval["ci"][0] <= interval["value"] <= interval["ci"][1]


def test_no_rows_give_null_scores_and_an_empty_confusion_matrix():
    entry = score(sample_of([], []), ["a", "b"], FEW)
    assert entry["answered"] == 0
    assert entry["confusion"] == [[0, 0, 0], [0, 0, 0]]
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "ece", "brier", "per_class"):
        assert entry[name] is None


def test_unparsable_answers_are_wrong_and_have_a_column():
    entry = score(sample_of([0, 0, 1, 1], [0, 2, 1, 2]), ["a", "b"], FEW)
    assert entry["confusion"] == [[1, 0, 1], [0, 1, 1]]
    assert entry["accuracy"]["value"] == 0.5
    assert entry["unparsable"] == 2
    assert entry["per_class"]["a"]["precision"]["value"] == 1.0
    assert entry["per_class"]["a"]["recall"]["value"] == 0.5


def test_all_answers_unparsable_score_zero():
    entry = score(sample_of([0, 1], [2, 2]), ["a", "b"], FEW)
    assert entry["accuracy"]["value"] == entry["balanced_accuracy"]["value"] == entry["macro_f1"]["value"] == 0
    assert entry["per_class"]["a"]["precision"] is None
    assert entry["auroc"] is entry["ece"] is entry["brier"] is None


def test_one_class_has_no_auroc_and_an_absent_class_no_recall():
    shares = [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]
    entry = score(sample_of([0, 0, 0], [0, 0, 1], probabilities=shares), ["a", "b"], FEW)
    assert entry["auroc"] is None
    assert entry["per_class"]["b"]["recall"] is None
    assert entry["per_class"]["b"]["support"] == 0
    assert entry["balanced_accuracy"]["value"] == pytest.approx(2 / 3)


def test_methods_are_named_with_resamples_and_seed():
    rng = np.random.default_rng(0)
    reference, predicted = rng.integers(0, 2, 60), rng.integers(0, 2, 60)
    shares = rng.dirichlet([1, 1], size=60)
    entry = score(sample_of(reference, predicted, probabilities=shares), ["a", "b"], Resampling(150, 7))
    assert entry["accuracy"]["method"] == "wilson"
    assert entry["accuracy"]["ci"] == list(wilson_ends((reference == predicted).sum(), 60))
    for name, method in (("balanced_accuracy", "stratified bootstrap"), ("brier", "bootstrap")):
        assert (entry[name]["method"], entry[name]["resamples"], entry[name]["seed"]) == (method, 150, 7)
    assert entry["auroc"]["method"] == "delong"
    assert entry["ece"]["ci"] is None


def test_a_class_without_a_mistake_still_widens_the_interval():
    """20 of 20 rows right: without doubt about them the interval would be that of the other class alone."""
    reference = [0] * 200 + [1] * 20
    entry = score(sample_of(reference, reference), ["ok", "toxic"], Resampling(2000, 0))
    assert entry["balanced_accuracy"]["ci"][0] < 0.95
    assert entry["macro_f1"]["ci"][0] < 0.97
    assert entry["balanced_accuracy"]["ci"][1] == entry["macro_f1"]["ci"][1] == 1.0


def test_half_the_rows_unlabelled_by_probabilities_are_counted():
    sample = sample_of([0, 1, 0, 1], [0, 1, 1, 2], probabilities=[[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.5, 0.5]])
    sample = dataclasses.replace(sample, with_probabilities=np.array([0, 1, 2]), probabilities=sample.probabilities[:3])
    entry = score(sample, ["a", "b"], FEW)
    assert entry["auroc"]["n"] == entry["ece"]["n"] == entry["brier"]["n"] == 3


@pytest.mark.parametrize("recall", [(0.91, 0.93), (0.98, 0.9), (0.99, 0.97)])
def test_stratified_bootstrap_covers_the_truth_also_when_a_class_is_small(recall):
    """The last case is where a bootstrap without smoothing holds the truth in half of all samples only."""
    rng = np.random.default_rng(5)
    totals, recall = np.array([200, 20]), np.array(recall)
    expected = np.zeros((2, 3))
    expected[[0, 1], [0, 1]], expected[[0, 1], [1, 0]] = totals * recall, totals * (1 - recall)
    truth = metrics.margins(expected)
    reference = np.repeat([0, 1], totals)
    covered = {"balanced_accuracy": 0, "macro_f1": 0}
    for _ in range(250):
        wrong = rng.random(220) > np.repeat(recall, totals)
        entry = score(sample_of(reference, np.where(wrong, 1 - reference, reference)), ["a", "b"], FEW)
        for name in covered:
            low, high = entry[name]["ci"]
            covered[name] += low <= float(getattr(metrics, name)(truth)) <= high
    assert min(covered.values()) / 250 >= 0.92, covered


def test_stratified_bootstrap_has_the_width_of_theory_on_many_rows():
    reference = np.repeat([0, 1], 2000)
    predicted = reference.copy()
    predicted[:200] = 1
    predicted[2000:2600] = 0
    entry = score(sample_of(reference, predicted), ["a", "b"], Resampling(4000, 0))
    half = Z * math.sqrt((0.1 * 0.9 + 0.3 * 0.7) / 2000) / 2
    assert entry["balanced_accuracy"]["ci"] == pytest.approx([0.8 - half, 0.8 + half], abs=0.08 * half)


def test_groups_widen_every_interval():
    rng = np.random.default_rng(6)
    reference = rng.integers(0, 2, 400)
    clusters = np.repeat(np.arange(20), 20)
    wrong = rng.random(400) < np.repeat(rng.beta(0.4, 1.6, 20), 20)
    predicted = np.where(wrong, 1 - reference, reference)
    top = np.clip(0.7 + 0.1 * rng.normal(size=400), 0.51, 0.99)
    shares = np.where(predicted[:, None] == np.arange(2), top[:, None], 1 - top[:, None])
    grouped = score(sample_of(reference, predicted, 2, shares, clusters), ["a", "b"], FEW)
    rows = score(sample_of(reference, predicted, 2, shares), ["a", "b"], FEW)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "brier", "auroc"):
        width = np.diff(grouped[name]["ci"]) / np.diff(rows[name]["ci"])
        assert width > 1.3, name
        assert grouped[name]["value"] == rows[name]["value"]
    assert grouped["accuracy"]["method"] == grouped["per_class"]["a"]["f1"]["method"] == "cluster bootstrap"
    assert grouped["auroc"]["method"] == "delong by group"


def test_groups_without_a_mistake_are_no_surer_than_their_rows():
    reference = np.tile([0, 1], 20)
    clusters = np.repeat(np.arange(8), 5)
    grouped = score(sample_of(reference, reference, clusters=clusters), ["a", "b"], FEW)
    rows = score(sample_of(reference, reference), ["a", "b"], FEW)
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        assert grouped[name]["ci"] == rows[name]["ci"]
        assert grouped[name]["ci"][0] < 0.95


def test_a_single_group_gets_no_interval_but_a_reason():
    entry = score(sample_of([0, 1, 0, 1], [0, 1, 1, 1], clusters=[0, 0, 0, 0]), ["a", "b"], FEW)
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        assert entry[name]["ci"] is None
        assert entry[name]["reason"] == "all rows are of one group"


def test_perfect_separation_leaves_the_auroc_without_an_interval():
    shares = [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]]
    entry = score(sample_of([0, 0, 1, 1], [0, 0, 1, 1], probabilities=shares), ["a", "b"], FEW)
    assert entry["auroc"]["value"] == 1.0
    assert entry["auroc"]["ci"] is None
    assert entry["auroc"]["reason"]


def test_constant_probabilities_have_an_auroc_of_one_half_without_an_interval():
    entry = score(sample_of([0, 0, 1, 1], [0, 0, 0, 0], probabilities=[[0.7, 0.3]] * 4), ["a", "b"], FEW)
    assert (entry["auroc"]["value"], entry["auroc"]["ci"]) == (0.5, None)


def test_auroc_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(7)
    truth = 0.5 * math.erfc(-1.2 / 2)  # P(X + 1.2 > Y) for standard normal X and Y
    covered = 0
    for _ in range(300):
        reference = np.repeat([0, 1], [80, 40])
        scores = 1 / (1 + np.exp(-(rng.normal(size=120) + 1.2 * reference)))
        shares = np.column_stack([1 - scores, scores])
        entry = score(sample_of(reference, reference, probabilities=shares), ["a", "b"], Resampling(100, 0))
        low, high = entry["auroc"]["ci"]
        covered += low <= truth <= high
    assert 0.92 <= covered / 300 <= 0.99
