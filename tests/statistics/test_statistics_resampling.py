import numpy as np
import pytest

from mlxdistill.statistics import resampling
from mlxdistill.statistics.resampling import (
    cluster_places,
    cluster_sums,
    generator,
    multinomial_counts,
    row_means,
    sums_by_cluster,
)


def test_multinomial_counts_keep_the_total_and_follow_the_weights():
    counts = multinomial_counts(np.array([1.0, 0.0, 6.0, 3.0]), 50, 4000, generator(0))
    assert counts.shape == (4000, 4)
    assert (counts.sum(axis=1) == 50).all()
    assert (counts[:, 1] == 0).all()
    assert counts.mean(axis=0) == pytest.approx([5, 0, 30, 15], abs=0.3)
    assert counts.var(axis=0) == pytest.approx([4.5, 0, 12, 10.5], rel=0.1)


def test_cluster_sums_are_sums_over_whole_clusters():
    values = np.array([[1.0, 1.0], [10.0, 1.0], [100.0, 1.0]])
    sums = cluster_sums(values, 500, generator(1))
    assert (sums[:, 1] == 3).all()
    possible = {a + b + c for a in (1, 10, 100) for b in (1, 10, 100) for c in (1, 10, 100)}
    assert set(sums[:, 0]) == possible


def test_cluster_sums_do_not_depend_on_how_many_are_drawn_at_once(monkeypatch):
    values = np.random.default_rng(0).random((40, 3))
    whole = cluster_sums(values, 100, generator(2))
    rows = row_means(values[:, 0], 100, generator(2))
    monkeypatch.setattr(resampling, "_DRAWS_AT_ONCE", 320)
    np.testing.assert_array_equal(cluster_sums(values, 100, generator(2)).shape, whole.shape)
    assert cluster_sums(values, 100, generator(2)).mean(axis=0) == pytest.approx(whole.mean(axis=0), rel=0.05)
    assert row_means(values[:, 0], 100, generator(2)).mean() == pytest.approx(rows.mean(), rel=0.05)


def test_sums_by_cluster_add_up_rows():
    values = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert sums_by_cluster(values, np.array([1, 0, 1])).tolist() == [[3.0, 4.0], [6.0, 8.0]]


def test_rows_without_a_group_stand_alone_even_beside_a_group_of_their_name():
    places = cluster_places([("a", "g"), ("g", None), ("b", "g"), ("c", "f")])
    assert places.tolist() == [1, 2, 1, 0]
    assert cluster_places([("a", "g"), ("b", None), ("c", "f")]) is None
