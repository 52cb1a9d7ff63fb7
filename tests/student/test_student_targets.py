"""Soft targets against a plain reference, and the weights of rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdistill.student.batches import Batch
from mlxdistill.student.encoding import EncodedRow
from mlxdistill.student.targets import TargetBatch, TargetBuilder, TargetSettings, label_weights, padded_count
from mlxdistill.tasks.trie import Trie, build_trie

END = 9
# One label alone on its first token, two that part at the second, one that is the beginning of another.
VERBALIZERS = [(1,), (2, 3), (2, 4, 4), (5,), (5, 6)]
ANSWERS = [(*path, END) for path in VERBALIZERS]


def trie() -> Trie:
    return build_trie(VERBALIZERS, END)


def build(label: int, probabilities: tuple[float, ...] | None, settings: TargetSettings) -> TargetBatch:
    row = EncodedRow("r", (7, 7, *ANSWERS[label]), 2, label, probabilities)
    return TargetBuilder(trie(), settings).build([row], Batch((0,), 16))


def reference(label: int, probabilities: tuple[float, ...], soft: float, temperature: float) -> list[dict[int, float]]:
    """Position by position, from the definition: the labels that are still possible, parted by their next token."""
    paths = trie().paths
    tempered = [value ** (1 / temperature) for value in probabilities]
    found = []
    for depth, token in enumerate(ANSWERS[label]):
        behind = [
            number
            for number, path in enumerate(paths)
            if path[:depth] == ANSWERS[label][:depth] and len(path) > depth and depth < len(paths[label])
        ]
        mass = sum(tempered[number] for number in behind)
        target = {token: 1.0 if mass == 0 else 1 - soft}
        for number in behind:
            if mass:
                target[paths[number][depth]] = target.get(paths[number][depth], 0) + soft * tempered[number] / mass
        found.append(target)
    return found


distributions = st.lists(st.floats(0, 1), min_size=5, max_size=5).filter(lambda values: sum(values) > 1e-3)


@given(st.integers(0, 4), distributions, st.floats(0, 1), st.sampled_from([0.5, 1.0, 2.0]))
def test_soft_targets_are_the_teachers_conditional_distributions(
    label: int, spread: list[float], soft: float, temperature: float
) -> None:
    probabilities = tuple(value / sum(spread) for value in spread)
    made = build(label, probabilities, TargetSettings(soft, temperature))
    expected = reference(label, probabilities, soft, temperature)
    assert int((made.weights > 0).sum()) == len(expected)
    for place, target in enumerate(expected):
        given_target: dict[int, float] = {}
        for token, value in zip(made.tokens[place], made.target[place], strict=True):
            given_target[int(token)] = given_target.get(int(token), 0) + float(value)
        for token, value in target.items():
            assert math.isclose(given_target.get(token, 0), value, abs_tol=1e-6)
        assert math.isclose(sum(given_target.values()), 1, abs_tol=1e-5)


def test_without_probabilities_the_hard_label_alone_is_learned() -> None:
    made = build(1, None, TargetSettings(0.7, 1.0))
    assert np.array_equal(made.target.max(axis=1), np.ones(len(made.target)))
    chosen = made.tokens[np.arange(3), made.target[:3].argmax(axis=1)]
    assert chosen.tolist() == [2, 3, END]


def test_accuracy_is_asked_where_a_path_branches() -> None:
    made = build(4, None, TargetSettings(0.5, 1.0))
    assert made.branches[:3].tolist() == [3, 2, 1]
    assert made.tokens[0, made.hard[0]] == 5
    assert made.tokens[1, made.hard[1]] == 6


def test_balanced_weights_make_every_label_count_the_same() -> None:
    rows = [EncodedRow(str(number), (1, 2), 1, label=0 if number < 9 else 3) for number in range(12)]
    weights = label_weights(rows, 5)
    assert weights == pytest.approx((12 / 18, 1, 1, 12 / 6, 1))
    assert sum(weights[row.label or 0] for row in rows) == pytest.approx(12)
    builder = TargetBuilder(trie(), TargetSettings(0.5, 1.0, weights))
    made = builder.build([EncodedRow("r", (7, 7, *ANSWERS[3]), 2, label=3)], Batch((0,), 16))
    assert made.weights[:2].tolist() == [2.0, 2.0]


def test_classes_weigh_the_same_in_steps_of_any_size() -> None:
    """A step that was divided by its own rows' class weights would lose them where all its rows are of one class."""
    chance = np.random.default_rng(0)
    rows = [EncodedRow(str(n), (7, 7, 5, END), 2, int(chance.random() < 0.05) * 3) for n in range(800)]
    builder = TargetBuilder(trie(), TargetSettings(0.0, 1.0, label_weights(rows, 5)))
    for size in (1, 4, 16):
        shares = {0: 0.0, 3: 0.0}
        for start in range(0, len(rows), size):
            step = rows[start : start + size]
            built = builder.build(step, Batch(tuple(range(len(step))), 4))
            for number, weight in zip(built.row_of, built.weights, strict=True):
                shares[step[number].label or 0] += weight / builder.weight(step)
        assert shares[0] == pytest.approx(shares[3], rel=1e-4)


@given(st.integers(1, 100_000))
def test_positions_are_padded_to_few_counts(positions: int) -> None:
    assert positions <= padded_count(positions) <= max(positions * 1.25, positions + 15)
    assert padded_count(padded_count(positions)) == padded_count(positions)


def test_there_are_few_counts() -> None:
    assert len({padded_count(positions) for positions in range(1, 4097)}) <= 4 * 7
