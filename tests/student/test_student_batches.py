"""Every row once an epoch, in few shapes; every supervised token counted once."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlxdistill.student.batches import (
    Batch,
    common_beginning,
    epoch_steps,
    even_batches,
    padded_length,
    padding_efficiency,
    parts,
)
from mlxdistill.student.encoding import EncodedRow
from mlxdistill.student.targets import TargetBuilder, TargetSettings

lengths_of_rows = st.lists(st.integers(1, 90), min_size=1, max_size=60)


def whole_steps(lengths: list[int], size: int, multiple: int) -> list[Batch]:
    steps = epoch_steps(lengths, -(-len(lengths) // size), seed=0, epoch=0)
    return [batch for rows in steps for batch in parts(rows, lengths, None, multiple)]


@given(lengths_of_rows, st.integers(1, 20), st.integers(0, 5), st.integers(0, 3))
def test_each_row_is_in_one_step_of_an_epoch(lengths: list[int], size: int, seed: int, epoch: int) -> None:
    count = -(-len(lengths) // size)
    steps = epoch_steps(lengths, count, seed=seed, epoch=epoch)
    assert Counter(row for rows in steps for row in rows) == Counter(range(len(lengths)))
    assert len(steps) == -(-len(lengths) // size)
    sizes = {len(rows) for rows in steps}
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
    assert steps == epoch_steps(lengths, count, seed=seed, epoch=epoch)


@given(st.lists(st.integers(1, 90), min_size=1, max_size=40), st.integers(16, 400))
def test_a_step_is_cut_into_even_parts_within_the_limit(lengths: list[int], batch_tokens: int) -> None:
    rows = range(len(lengths))
    cut = parts(rows, lengths, batch_tokens, 4)
    assert [row for part in cut for row in part.rows] == list(rows)
    sizes = {len(part.rows) for part in cut}
    assert max(sizes) - min(sizes) <= 1
    for part in cut:
        assert part.length == max(padded_length(lengths[row], 4) for row in part.rows)
        assert len(part.rows) == 1 or len(part.rows) * part.length <= batch_tokens
    assert parts(rows, lengths, None, 4) == parts(rows, lengths, 10**9, 4)
    assert len(parts(rows, lengths, None, 4)) == 1


def test_epochs_and_seeds_shuffle_differently() -> None:
    lengths = [10] * 64
    orders = {str(epoch_steps(lengths, 8, seed=seed, epoch=epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_rows_of_like_length_share_a_step() -> None:
    lengths = [8, 40, 100] * 64
    batches = whole_steps(lengths, 16, 16)
    assert all(len({padded_length(lengths[row], 16) for row in batch.rows}) == 1 for batch in batches)
    assert {batch.length for batch in batches} == {16, 48, 112}
    assert padding_efficiency(lengths, batches) == 148 / 176


def test_a_finer_multiple_computes_less_padding() -> None:
    lengths = list(range(1, 129))
    fine, coarse = (padding_efficiency(lengths, whole_steps(lengths, 8, n)) for n in (4, 16))
    assert fine > coarse


@given(st.lists(st.lists(st.integers(0, 2), max_size=6).map(tuple), min_size=1, max_size=6))
def test_the_common_beginning_is_the_longest_that_all_rows_have(rows: list[tuple[int, ...]]) -> None:
    shared = common_beginning(rows)
    assert all(row[:shared] == rows[0][:shared] for row in rows)
    assert min(map(len, rows)) == shared or len({row[: shared + 1] for row in rows}) > 1


@given(lengths_of_rows, st.integers(16, 400), st.integers(1, 8))
def test_prediction_batches_hold_each_row_once_within_the_limit(lengths: list[int], tokens: int, rows: int) -> None:
    batches = even_batches(lengths, tokens, rows, 4)
    assert Counter(row for batch in batches for row in batch.rows) == Counter(range(len(lengths)))
    for batch in batches:
        assert len(batch.rows) <= rows
        assert len(batch.rows) == 1 or len(batch.rows) * batch.length <= tokens
        assert all(lengths[row] <= batch.length for row in batch.rows)


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 9)), min_size=1, max_size=40),
    st.integers(1, 9),
    st.none() | st.integers(16, 120),
    st.integers(0, 3),
)
def test_each_supervised_token_counts_once_an_epoch(
    shapes: list[tuple[int, int]], size: int, batch_tokens: int | None, epoch: int
) -> None:
    # Token values tell row and place, so a shifted or doubled position cannot hide.
    rows = [
        EncodedRow(str(number), tuple(1000 * number + place + 1 for place in range(prompt + answer)), prompt)
        for number, (prompt, answer) in enumerate(shapes)
    ]
    builder = TargetBuilder(None, TargetSettings(0.5, 1.0))
    counted: Counter[int] = Counter()
    lengths = [len(row.tokens) - 1 for row in rows]
    steps = epoch_steps(lengths, -(-len(lengths) // size), seed=0, epoch=epoch)
    for batch in (batch for step in steps for batch in parts(step, lengths, batch_tokens, 4)):
        built = builder.build(rows, batch)
        assert built.weights.sum() == builder.weight([rows[row] for row in batch.rows])
        flat = built.inputs.reshape(-1)
        for position, token, weight in zip(built.positions, built.tokens[:, 0], built.weights, strict=True):
            if weight:
                assert flat[position] == token - 1
                counted[int(token)] += int(weight)
    expected = Counter(token for row in rows for token in row.tokens[row.first_target :])
    assert counted == expected
    assert np.array_equal(built.target.sum(axis=1), np.ones(len(built.target)))
