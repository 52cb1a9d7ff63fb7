"""A training can record how it came to each row, and is the same training with the record as without."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_students import Reporter, train_here, train_request, write_rows

from mlxdistill.student.batches import Batch
from mlxdistill.student.dynamics import Record, row_figures
from mlxdistill.student.requests import TrainRequest
from mlxdistill.student.targets import TargetBatch
from mlxdistill.workers.channel import StopRequested

ModelFolder = Callable[[str], Path]
SETTINGS: dict[str, Any] = {
    "lora": {"dropout": 0.1},
    "train": {"epochs": 3, "batch_size": 5, "batch_tokens": 96, "learning_rate": 1e-2, "patience": 10},
}


def request_in(folder: Path, model: Path, **train: Any) -> TrainRequest:
    write_rows(folder / "data" / "train.jsonl", 14)
    write_rows(folder / "data" / "valid.jsonl", 4, seed=1)
    settings = {**SETTINGS, "train": {**SETTINGS["train"], "record_dynamics": True, **train}}
    return replace(train_request(model, folder, **settings), dynamics=folder / "dynamics.jsonl")


def adapter(request: TrainRequest) -> bytes:
    return (request.output / "adapters.safetensors").read_bytes()


def test_recording_changes_nothing_and_survives_a_stop(model_folder: ModelFolder, tmp_path: Path) -> None:
    model = model_folder("llama")
    whole, without, stopped = (request_in(tmp_path / name, model) for name in ("whole", "without", "stopped"))
    train_here(whole)
    plain = without.train.model_copy(update={"record_dynamics": False})
    train_here(replace(without, train=plain, dynamics=None))
    assert adapter(whole) == adapter(without)
    assert not (tmp_path / "without" / "dynamics.jsonl").exists()
    with pytest.raises(StopRequested):
        train_here(stopped, Reporter(stop_at=5))
    train_here(stopped)
    assert adapter(stopped) == adapter(whole)
    recorded = (tmp_path / "whole" / "dynamics.jsonl").read_bytes()
    assert (tmp_path / "stopped" / "dynamics.jsonl").read_bytes() == recorded
    lines = [json.loads(line) for line in recorded.splitlines()]
    assert [line["id"] for line in lines] == [f"row{number}" for number in range(14)]
    values = np.array([[line["loss"], line["margin"]] for line in lines], np.float64)
    assert values.shape == (14, 2, 3)
    assert np.isfinite(values).all()
    # The rows are few and learned well: sure of nothing in the first epoch, of more in the last.
    assert values[:, 0, -1].mean() < values[:, 0, 0].mean()
    assert values[:, 1, -1].mean() > values[:, 1, 0].mean()


def test_steps_in_parts_are_recorded_whole(model_folder: ModelFolder, tmp_path: Path) -> None:
    model = model_folder("llama")
    found = []
    for tokens in (24, 4096):
        request = request_in(tmp_path / str(tokens), model, batch_tokens=tokens, epochs=2)
        request = replace(request, lora=request.lora.model_copy(update={"dropout": 0.0}))
        train_here(request)
        lines = (tmp_path / str(tokens) / "dynamics.jsonl").read_text().splitlines()
        found.append([json.loads(line)["margin"] for line in lines])
    assert np.allclose(found[0], found[1], atol=1e-3)


def test_a_rows_figures_are_of_its_own_positions() -> None:
    batch = TargetBatch(
        inputs=np.zeros((2, 3), np.int32),
        positions=np.zeros(4, np.int32),
        tokens=np.zeros((4, 3), np.int32),
        target=np.zeros((4, 3), np.float32),
        weights=np.array([1, 1, 0.5, 0], np.float32),
        branches=np.array([2, 3, 2, 1], np.int32),
        hard=np.array([0, 2, 1, 0], np.int32),
        row_of=np.array([0, 0, 1, 0], np.int32),
    )
    losses = np.array([1.0, 2.0, 4.0, 99.0], np.float32)
    chosen = np.array([[3, 1, 50], [0, 5, 4], [2, 1.5, 50], [0, 0, 0]], np.float32)
    found = row_figures(batch, Batch((7, 9), 3).rows, losses, chosen)
    assert found == {7: (3.0, -1.0), 9: (4.0, -0.5)}


def test_ranks_add_up_what_each_saw(model_folder: ModelFolder, tmp_path: Path) -> None:
    from mlxdistill.student.encoding import EncodedRow

    rows = [EncodedRow("a", (1, 2), 1, label=0), EncodedRow("b", (1, 2), 1), EncodedRow("c", (1, 2), 1, label=1)]
    record = Record(rows, epochs=2)
    first, second = (
        record.figures([0, 1, 2], {0: (1.0, 2.0)}),
        record.figures([0, 1, 2], {1: (9.0, 9.0), 2: (3.0, -4.0)}),
    )
    assert first.keys() == second.keys() == {"loss 0", "margin 0", "loss 2", "margin 2"}
    record.take(1, {"loss": 5.0, **{name: first[name] + second[name] for name in first}})
    restored = Record(rows, epochs=2)
    restored.restore(record.tensors())
    restored.write(tmp_path / "dynamics.jsonl", ("ok", "bad"))
    assert [json.loads(line) for line in (tmp_path / "dynamics.jsonl").read_text().splitlines()] == [
        {"id": "a", "label": "ok", "loss": [None, 1.0], "margin": [None, 2.0]},
        {"id": "c", "label": "bad", "loss": [None, 3.0], "margin": [None, -4.0]},
    ]
