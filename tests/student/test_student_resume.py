"""A training goes on from any of its steps as if it had never stopped."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_students import Reporter, train_here, train_request, write_rows

from mlxdistill.student import loop
from mlxdistill.student.batches import parts
from mlxdistill.student.checkpoints import Checkpoint, Checkpoints
from mlxdistill.student.requests import TrainRequest
from mlxdistill.workers.channel import StopRequested

ModelFolder = Callable[[str], Path]
STEPS = 30
SETTINGS: dict[str, Any] = {
    "lora": {"dropout": 0.1},
    "train": {
        "epochs": 5,
        "batch_size": 5,
        "batch_tokens": 96,
        "warmup": 0.2,
        "weight_decay": 0.01,
        "validations_per_epoch": 2,
        "patience": 10,
        "learning_rate": 1e-2,
    },
}


@pytest.fixture
def every_step_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with a copy of the checkpoints after each step."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    save = Checkpoints.save
    kept = tmp_path / "kept"

    def save_and_keep(self: Checkpoints, checkpoint: Checkpoint) -> None:
        save(self, checkpoint)
        shutil.copytree(self._folder, kept / str(checkpoint.step))

    monkeypatch.setattr(Checkpoints, "save", save_and_keep)
    return kept


def request_in(folder: Path, model: Path) -> TrainRequest:
    write_rows(folder / "data" / "train.jsonl", 29)
    write_rows(folder / "data" / "valid.jsonl", 6, seed=1)
    return train_request(model, folder, **SETTINGS)


def without_times(checkpoint: Path) -> dict[str, Any]:
    state = json.loads((checkpoint / "state.json").read_text())
    for name in ("seconds", "step_seconds"):
        state["state"].pop(name)
    for event in state["state"]["losses"]:
        event.pop("tokens_per_second")
        event.pop("peak_memory_bytes")
    return state


def test_resume_is_bit_equal_from_every_step(
    model_folder: ModelFolder, tmp_path: Path, every_step_is_kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout, AdamW, warm-up and cosine, steps of several parts, validations, and patience that counts.

    Going on from each step to the next gives all that a checkpoint holds of the next; so, step by step, going on from
    any of them gives the same end. Some are gone on from to the end all the same.
    """
    in_parts: list[int] = []

    def counted(*arguments: Any) -> Any:
        found = parts(*arguments)
        in_parts.append(len(found))
        return found

    monkeypatch.setattr(loop, "parts", counted)
    model = model_folder("llama")
    request = request_in(tmp_path / "whole", model)
    expected, reporter = train_here(request)
    assert expected.steps == STEPS
    assert min(in_parts) < max(in_parts) > 1
    assert len({event.best for event in expected.history}) == 2
    assert expected.best_step < STEPS
    assert sorted(int(path.name) for path in every_step_is_kept.iterdir()) == list(range(1, STEPS + 1))
    monkeypatch.undo()
    for step in range(1, STEPS + 1):
        resumed = request_in(tmp_path / str(step), model)
        shutil.copytree(every_step_is_kept / str(step), resumed.checkpoints)
        to_the_end = step in (2, 17, 29, 30)
        again = Reporter(None if to_the_end else step + 1)
        with contextlib.suppress(StopRequested):
            result, _ = train_here(resumed, again)
            assert (result.history, result.losses) == (expected.history, expected.losses), step
        assert again.sent[0].step == step
        sent = [report for report in reporter.sent[1:] if to_the_end or report.step <= step + 1]
        assert again.sent[1:] == sent, step
        assert (resumed.output / "adapters.safetensors").exists() == to_the_end
        newest = f"{STEPS if to_the_end else step + 1:08d}"
        found, wanted = resumed.checkpoints / newest, every_step_is_kept / str(int(newest)) / newest
        assert without_times(found) == without_times(wanted), step
        for name in ("adapter", "optimizer", "best"):
            assert (found / f"{name}.safetensors").read_bytes() == (wanted / f"{name}.safetensors").read_bytes(), step
        if to_the_end:
            for folder in (resumed.output, request.output):
                assert (folder / "adapters.safetensors").read_bytes() == (wanted / "best.safetensors").read_bytes()
