"""Every class as often as the others, every row its turn, and no copy beside another."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_students import LABELS, Reporter, train_here, train_request, write_rows

from mlxdistill.config.models import TrainConfig
from mlxdistill.student import loop
from mlxdistill.student.balance import Epochs
from mlxdistill.student.batches import padded_length
from mlxdistill.student.encoding import EncodedRow
from mlxdistill.student.planning import plan
from mlxdistill.student.targets import label_weights
from mlxdistill.workers.channel import StopRequested

Way = Literal["upsample", "downsample"]
ways = st.sampled_from(["upsample", "downsample"])
rows_of_labels = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 60)), min_size=1, max_size=80)


def epochs_of(rows: list[tuple[int, int]], way: Way | Literal[False], **settings: Any) -> Epochs:
    encoded = [EncodedRow(str(place), (1,) * (length + 1), length, label) for place, (label, length) in enumerate(rows)]
    return Epochs(encoded, [length for _, length in rows], TrainConfig(class_balance=way, **settings))


@given(rows_of_labels, ways, st.integers(0, 3), st.integers(0, 9))
def test_every_class_comes_as_often(rows: list[tuple[int, int]], way: Way, seed: int, epoch: int) -> None:
    epochs = epochs_of(rows, way, seed=seed)
    copies = epochs.copies(epoch)
    counts = Counter(label for label, _ in rows)
    size = max(counts.values()) if way == "upsample" else min(counts.values())
    assert epochs.label_counts(epoch, 4) == tuple(size if counts[label] else 0 for label in range(4))
    for label in counts:
        of_class = copies[[place for place, (other, _) in enumerate(rows) if other == label]]
        assert of_class.max() - of_class.min() <= 1
    assert epochs.rows == copies.sum()
    assert np.array_equal(copies, epochs_of(rows, way, seed=seed).copies(epoch))


@given(rows_of_labels, ways, st.integers(1, 20), st.integers(0, 3))
def test_every_copy_is_in_one_step_and_no_step_has_two(
    rows: list[tuple[int, int]], way: Way, size: int, epoch: int
) -> None:
    epochs = epochs_of(rows, way)
    steps = epochs.steps(size, epoch)
    copies = epochs.copies(epoch)
    assert Counter(row for step in steps for row in step) == {
        row: count for row, count in enumerate(copies) if count > 0
    }
    assert len(steps) == epochs.count_steps(size) == -(-epochs.rows // size)
    sizes = {len(step) for step in steps}
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
    for row, count in enumerate(copies):
        most = max(Counter(step)[row] for step in steps)
        assert most <= -(-count // len(steps))  # 1, unless the row comes more often than there are steps


def test_without_balance_the_steps_are_those_of_every_row_once() -> None:
    rows = [(place % 2, 3 + place % 7) for place in range(40)]
    epochs = epochs_of(rows, False)
    assert epochs.copies(3).tolist() == [1] * 40
    assert epochs.label_counts(0, 3) == (20, 20, 0)


@given(st.integers(3, 40), st.integers(1, 3), st.integers(0, 5))
def test_over_the_epochs_every_row_of_a_large_class_has_its_turn(large: int, small: int, seed: int) -> None:
    epochs = epochs_of([(0, 5)] * large + [(1, 5)] * small, "downsample", seed=seed)
    turns = sum(epochs.copies(epoch)[:large] for epoch in range(large))
    assert set(turns.tolist()) == {min(small, large) * large // large}
    assert any(not np.array_equal(epochs.copies(0), epochs.copies(epoch)) for epoch in range(1, large)) == (
        small < large
    )


def test_copies_of_a_row_spread_without_mixing_the_lengths() -> None:
    """Dealing over the whole epoch would put rows of all lengths into each step."""
    rows = [(0, 4 + place % 100) for place in range(900)] + [(1, 4 + place % 100) for place in range(100)]
    steps = epochs_of(rows, "upsample").steps(16, 0)
    lengths = [[padded_length(rows[row][1], 4) for row in step] for step in steps]
    held = sum(sum(step) for step in lengths) / sum(max(step) * len(step) for step in lengths)
    assert held > 0.9


def test_a_rationale_comes_as_often_as_its_row() -> None:
    rows = [EncodedRow(str(place), (1, 2, 3), 2, int(place < 3)) for place in range(12)]
    rows += [EncodedRow(str(place), (1, 2, 3, 4), 2, is_rationale=True) for place in (0, 2, 5)]
    for way in ("upsample", "downsample"):
        epochs = Epochs(rows, [2] * len(rows), TrainConfig(class_balance=way, epochs=4))
        for epoch in range(4):
            copies = epochs.copies(epoch)
            assert copies[12:].tolist() == copies[[0, 2, 5]].tolist()
            assert len(epochs.steps(1, epoch)) == epochs.count_steps(1)
            assert min(map(len, epochs.steps(1, epoch))) == 1


def test_class_weights_heed_the_weights_of_rows() -> None:
    rows = [EncodedRow(str(place), (1, 2), 1, label=int(place >= 9), weight=0.5) for place in range(12)]
    rows[9] = EncodedRow("9", (1, 2), 1, label=1, weight=1.0)
    weights = label_weights(rows, 2)
    sums = [sum(weights[label] * row.weight for row in rows if row.label == label) for label in (0, 1)]
    assert sums[0] == pytest.approx(sums[1])
    assert sum(sums) == pytest.approx(sum(row.weight for row in rows))


@pytest.mark.parametrize("way", ["upsample", "downsample"])
def test_a_balanced_training_goes_on_bit_equal(
    model_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Way
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    settings = {"lora": {"dropout": 0.1}, "train": {"class_balance": way, "epochs": 3, "patience": 9}}

    def request_in(folder: Path) -> Any:
        write_rows(folder / "data" / "train.jsonl", 40)
        write_rows(folder / "data" / "valid.jsonl", 8, seed=1)
        return train_request(model_folder("llama"), folder, **settings)

    whole = request_in(tmp_path / "whole")
    expected, _ = train_here(whole)
    labels = Counter(json.loads(line)["label"] for line in (whole.data / "train.jsonl").read_text().splitlines())
    size = max(labels.values()) if way == "upsample" else min(labels.values())
    assert (expected.label_counts, expected.rows_per_epoch) == ((size,) * 4, 4 * size)
    assert len(labels) == len(LABELS)
    assert len(set(labels.values())) > 1
    assert expected.steps == 3 * -(-4 * size // 8)
    planned = plan(whole)
    assert (planned.rows, planned.rows_per_epoch, planned.steps) == (40, 4 * size, expected.steps)
    stopped = request_in(tmp_path / "stopped")
    for step in (1, expected.steps // 2, expected.steps - 1):
        with contextlib.suppress(StopRequested):
            train_here(stopped, Reporter(step))
    result, _ = train_here(stopped)
    assert result.history == expected.history
    assert (stopped.output / "adapters.safetensors").read_bytes() == (
        whole.output / "adapters.safetensors"
    ).read_bytes()
