"""Training: deterministic, resumable to the bit, and careful with what goes wrong."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_students import Reporter, train_here, train_request, write_rows

from mlxdistill.errors import DataError, MlxDistillError, ModelError
from mlxdistill.student import memory_model
from mlxdistill.student.adapter import load_adapter
from mlxdistill.student.base import load_base
from mlxdistill.student.loop import Training
from mlxdistill.student.requests import LossEvent, TrainEvent
from mlxdistill.workers.channel import StopRequested

ModelFolder = Callable[[str], Path]


def adapter_bytes(folder: Path) -> bytes:
    return (folder / "adapters" / "adapters.safetensors").read_bytes()


def copy_of(work: Path, name: str) -> Path:
    other = work / name
    shutil.copytree(work / "data", other / "data")
    return other


def test_the_loss_falls_and_the_best_adapter_is_kept(model_folder: ModelFolder, work: Path) -> None:
    request = train_request(model_folder("llama"), work, train={"epochs": 3, "learning_rate": 3e-3})
    result, reporter = train_here(request)
    assert result.steps == 12
    assert len(result.history) == 12
    assert tuple(event for event in reporter.sent if isinstance(event, TrainEvent)) == result.history
    losses = [event.valid_loss for event in result.history]
    assert losses[-1] < 0.8 * losses[0]
    best = min(result.history, key=lambda event: event.valid_loss)
    assert (result.best_step, result.best_valid_loss) == (best.step, best.valid_loss)
    assert [event.best for event in result.history] == [
        loss < min(losses[:number], default=float("inf")) for number, loss in enumerate(losses)
    ]
    assert 0.5 < result.padding_efficiency <= 1
    assert result.rows_per_second > 0
    assert result.mlx_peak_bytes > 0


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(model_folder: ModelFolder, work: Path) -> None:
    found = []
    for number, seed in enumerate([0, 0, 1]):
        folder = copy_of(work, str(number))
        train_here(
            train_request(model_folder("llama"), folder, lora={"dropout": 0.1}, train={"epochs": 1, "seed": seed})
        )
        found.append(adapter_bytes(folder))
    assert found[0] == found[1]
    assert found[0] != found[2]


@pytest.mark.parametrize("stops", [(1,), (4, 5)])
def test_resume_is_bit_equal_to_never_having_stopped(
    model_folder: ModelFolder, work: Path, stops: tuple[int, ...]
) -> None:
    settings = {"lora": {"dropout": 0.1}, "train": {"validations_per_epoch": 2}}
    whole, stopped = copy_of(work, "whole"), copy_of(work, "stopped")
    expected, _ = train_here(train_request(model_folder("llama"), whole, **settings))
    for stop in stops:
        request = train_request(model_folder("llama"), stopped, **settings)
        with pytest.raises(StopRequested):
            train_here(request, Reporter(stop_at=stop))
        assert (stopped / "checkpoints" / f"{stop:08d}").is_dir()
    result, reporter = train_here(request)
    assert f"step {stops[-1]} of 8" in reporter.notes[-1]
    assert adapter_bytes(stopped) == adapter_bytes(whole)
    assert result.history == expected.history


def test_a_finished_training_is_not_trained_again(model_folder: ModelFolder, work: Path) -> None:
    request = train_request(model_folder("llama"), work)
    first, _ = train_here(request)
    before = adapter_bytes(work)
    shutil.rmtree(work / "adapters")
    again, reporter = train_here(request)
    assert reporter.step == 0
    assert adapter_bytes(work) == before
    assert again.history == first.history


def test_other_settings_start_anew_and_say_so(model_folder: ModelFolder, work: Path) -> None:
    with pytest.raises(StopRequested):
        train_here(train_request(model_folder("llama"), work), Reporter(stop_at=3))
    result, reporter = train_here(train_request(model_folder("llama"), work, train={"learning_rate": 2e-3}))
    assert "anew" in reporter.notes[0]
    assert result.steps == 8


def other_weights(model: Path) -> None:
    import mlx.core as mx

    file = model / "model.safetensors"
    before = file.stat()
    arrays = {name: value * 0.5 for name, value in mx.load(str(file)).items()}
    mx.eval(arrays)
    mx.save_safetensors(str(file), arrays, metadata={"format": "mlx"})
    assert file.stat().st_size == before.st_size
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def other_tokenizer(model: Path) -> None:
    file = model / "tokenizer.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "normalizer": {"type": "Lowercase"}}))


def other_template(model: Path) -> None:
    file = model / "tokenizer_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "chat_template": config["chat_template"].replace("message[", " message[")}))


@pytest.mark.parametrize("change", [other_weights, other_tokenizer, other_template])
def test_another_base_in_the_same_folder_is_trained_anew(
    model_folder: ModelFolder, work: Path, change: Callable[[Path], None]
) -> None:
    model = work / "model"
    shutil.copytree(model_folder("llama"), model)
    request = train_request(model, work, train={"epochs": 1})
    first, _ = train_here(request)
    change(model)
    again, reporter = train_here(request)
    assert "anew" in reporter.notes[0]
    assert reporter.step == first.steps
    if change is other_weights:
        assert again.best_valid_loss != first.best_valid_loss


def test_the_same_base_in_another_folder_goes_on(model_folder: ModelFolder, work: Path) -> None:
    request = train_request(model_folder("llama"), work)
    with pytest.raises(StopRequested):
        train_here(request, Reporter(stop_at=3))
    shutil.copytree(model_folder("llama"), work / "moved")
    _, reporter = train_here(replace(request, model=str(work / "moved")))
    assert "step 3 of 8" in reporter.notes[-1]


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(model_folder: ModelFolder, work: Path) -> None:
    settings = {"train": {"validations_per_epoch": 2}}
    whole, stopped = copy_of(work, "whole"), copy_of(work, "stopped")
    train_here(train_request(model_folder("llama"), whole, **settings))
    request = train_request(model_folder("llama"), stopped, **settings)
    with pytest.raises(StopRequested):
        train_here(request, Reporter(stop_at=7))
    kept = sorted(path.name for path in (stopped / "checkpoints").iterdir())
    assert kept == ["00000006", "00000007"]
    weights = stopped / "checkpoints" / "00000007" / "optimizer.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    _, reporter = train_here(request)
    assert "00000007 is damaged" in reporter.notes[0]
    assert "step 6 of 8" in reporter.notes[1]
    assert adapter_bytes(stopped) == adapter_bytes(whole)


def test_training_stops_early_without_a_better_validation(model_folder: ModelFolder, work: Path) -> None:
    # Far too high a rate: after the first validation the loss only rises.
    train = {"learning_rate": 5.0, "epochs": 20, "patience": 2, "warmup": 0.0}
    result, _ = train_here(train_request(model_folder("llama"), work, train=train))
    assert result.stopped_early
    assert result.steps < 80
    after_best = [event for event in result.history if event.step > result.best_step]
    assert len(after_best) == 2


def poison(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    """Makes the loss of some steps NaN, which a real training meets in half precision or with a wild rate."""
    import mlx.core as mx

    original = Training.__init__

    def changed(self: Training, *arguments: object, **options: object) -> None:
        original(self, *arguments, **options)  # type: ignore[arg-type]
        gradients = self._gradients

        def poisoned(*given: object) -> object:
            loss, found = gradients(*given)
            return (loss * mx.nan, found) if self.state.step in steps else (loss, found)

        self._gradients = poisoned  # type: ignore[assignment]

    monkeypatch.setattr(Training, "__init__", changed)


def test_non_finite_steps_are_skipped_and_counted(
    model_folder: ModelFolder, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, {2, 3, 6})
    result, _ = train_here(train_request(model_folder("llama"), work))
    assert result.steps == 8
    assert result.skipped_steps == 3
    assert result.best_valid_loss is not None


def test_three_non_finite_steps_in_a_row_end_at_the_best_adapter_before_them(
    model_folder: ModelFolder, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    four_steps = copy_of(work, "four_steps")
    request = train_request(model_folder("llama"), four_steps, train={"validations_per_epoch": 1})
    with pytest.raises(StopRequested):
        train_here(request, Reporter(stop_at=4))
    poison(monkeypatch, {5, 6, 7})
    request = train_request(model_folder("llama"), work, train={"validations_per_epoch": 1})
    with pytest.raises(MlxDistillError, match=r"best adapter before it \(step 4, validation loss \d") as caught:
        train_here(request)
    assert caught.value.where == "step 8"
    assert caught.value.hint == (
        "lower train.learning_rate (now 0.001) or student.lora.scale (now 8); training then starts anew"
    )
    assert str(work / "adapters-unfinished") in caught.value.message
    assert not (work / "adapters").exists()
    kept = (work / "adapters-unfinished" / "adapters.safetensors").read_bytes()
    assert kept == (four_steps / "checkpoints" / "00000004" / "best.safetensors").read_bytes()
    load_adapter(load_base(str(model_folder("llama"))).model, work / "adapters-unfinished")


def test_what_a_diverged_training_left_stays_until_another_has_finished(
    model_folder: ModelFolder, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a finished adapter of an earlier training stays until there is a new one."""
    train_here(train_request(model_folder("llama"), work, train={"epochs": 1}))
    finished = adapter_bytes(work)
    with monkeypatch.context() as patch:
        poison(patch, {4, 5, 6})
        with pytest.raises(MlxDistillError, match="is kept in"):
            train_here(train_request(model_folder("llama"), work))
    assert adapter_bytes(work) == finished
    lower = train_request(model_folder("llama"), work, train={"learning_rate": 5e-4})
    reporter = Reporter(stop_at=2)
    with pytest.raises(StopRequested):
        train_here(lower, reporter)
    assert "anew" in reporter.notes[0]
    assert (work / "adapters-unfinished" / "adapters.safetensors").exists()
    assert adapter_bytes(work) == finished
    train_here(lower)
    assert adapter_bytes(work) != finished
    assert sorted(path.name for path in work.iterdir()) == ["adapters", "checkpoints", "data"]


@pytest.mark.parametrize(
    ("train", "reason"),
    [
        ({"validations_per_epoch": 1}, "not finite in 3 steps in a row"),
        ({"batch_size": 30, "epochs": 1}, "no validation loss was finite"),
    ],
)
def test_a_rate_at_which_nothing_can_be_learned_leaves_no_adapter(
    model_folder: ModelFolder, work: Path, train: dict[str, object], reason: str
) -> None:
    request = train_request(model_folder("llama"), work, train={"learning_rate": 1e38, "warmup": 0.0, **train})
    with pytest.raises(MlxDistillError, match=f"{reason}; nothing had been learned before") as caught:
        train_here(request)
    assert "now 1e+38" in (caught.value.hint or "")
    assert [path.name for path in work.iterdir() if path.name.startswith("adapters")] == []


def test_a_training_without_one_finite_step_is_no_success(
    model_folder: ModelFolder, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its validations are finite: they are those of the base."""
    poison(monkeypatch, {0, 1})
    with pytest.raises(MlxDistillError, match="not finite in any step; nothing had been learned before"):
        train_here(train_request(model_folder("llama"), work, train={"batch_size": 15, "epochs": 1}))


@pytest.mark.parametrize("change", [{"batch_tokens": 64}, {"gradient_checkpointing": True}], ids=str)
def test_a_training_that_ran_out_of_memory_goes_on_with_smaller_parts(
    model_folder: ModelFolder, work: Path, change: dict[str, object]
) -> None:
    with pytest.raises(StopRequested):
        train_here(train_request(model_folder("llama"), work), Reporter(stop_at=3))
    _, reporter = train_here(train_request(model_folder("llama"), work, train=change))
    assert "step 3 of 8" in reporter.notes[-1]


def test_training_losses_are_reported_at_some_steps_and_again_after_a_stop(
    model_folder: ModelFolder, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlxdistill.student.reports.MOST_LOSSES", 5)
    whole, stopped = copy_of(work, "whole"), copy_of(work, "stopped")
    train = {"validations_per_epoch": 1, "epochs": 3}
    expected, reporter = train_here(train_request(model_folder("llama"), whole, train=train))
    start, *events = reporter.sent
    assert (start.step, start.total_steps, start.rows, start.valid_rows) == (0, 12, 30, 10)
    assert 0 < start.longest_row <= start.largest_part <= 8 * start.longest_row
    assert [(type(event), event.step) for event in events] == [
        *[(LossEvent, 3), (TrainEvent, 4), (LossEvent, 6), (TrainEvent, 8), (LossEvent, 9)],
        *[(LossEvent, 12), (TrainEvent, 12)],
    ]
    assert [event.loss for event in expected.losses if event.loss is None] == []
    request = train_request(model_folder("llama"), stopped, train=train)
    with pytest.raises(StopRequested):
        train_here(request, Reporter(stop_at=7))
    again, reporter = train_here(request)
    assert reporter.sent[0].step == 7
    assert reporter.sent[0].training == start.training
    assert reporter.sent[1:] == events
    assert (again.history, again.losses) == (expected.history, expected.losses)


def test_a_plain_mlx_lm_folder_is_trained_on(model_folder: ModelFolder, tmp_path: Path) -> None:
    rows = [{"prompt": f"number {number}", "completion": "not sure"} for number in range(11)]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    request = train_request(model_folder("llama"), tmp_path, labels=(), prompt=None)
    result, reporter = train_here(request)
    assert result.steps == result.best_step == 4
    assert result.best_valid_loss is None
    assert "no valid.jsonl" in reporter.notes[0]
    assert (tmp_path / "adapters" / "adapters.safetensors").is_file()


def test_a_quantized_base_trains(model_folder: ModelFolder, work: Path) -> None:
    result, _ = train_here(train_request(model_folder("llama"), work, quantize=4, train={"learning_rate": 3e-3}))
    assert result.history[-1].valid_loss < result.history[0].valid_loss
    config = json.loads((work / "adapters" / "adapter_config.json").read_text())
    assert config["quantize"] == 4


def test_probabilities_teach_what_labels_alone_do_not(model_folder: ModelFolder, tmp_path: Path) -> None:
    losses = []
    for name, probabilities in (("soft", True), ("hard", False)):
        folder = tmp_path / name
        write_rows(folder / "data" / "train.jsonl", 20, probabilities=probabilities)
        write_rows(folder / "data" / "valid.jsonl", 8, probabilities=True, seed=1)
        result, _ = train_here(train_request(model_folder("llama"), folder, train={"soft_weight": 1.0, "epochs": 1}))
        losses.append(result.history[0].loss)
    assert losses[0] != losses[1]


def test_truncated_rows_are_counted_and_said(model_folder: ModelFolder, work: Path) -> None:
    result, reporter = train_here(train_request(model_folder("llama"), work, max_tokens=40, train={"epochs": 1}))
    assert 0 < result.truncated < 40
    assert any(f"{result.truncated} rows lost the end" in note for note in reporter.notes)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"data": Path("/nowhere")}, DataError, "no such folder"),
        ({"lora": {"keys": ("self_attn.qproj",)}}, ModelError, "no layer is called"),
        ({"labels": (("a", "ok"), ("b", "ok"))}, ModelError, "same tokens"),
        ({"max_tokens": 20}, DataError, "no room"),
    ],
)
def test_wrong_requests_are_refused_with_place_and_mend(
    model_folder: ModelFolder, work: Path, change: dict[str, object], error: type[MlxDistillError], message: str
) -> None:
    request = train_request(model_folder("llama"), work, **({"lora": change["lora"]} if "lora" in change else {}))
    request = replace(request, **{key: value for key, value in change.items() if key != "lora"})
    with pytest.raises(error, match=message) as caught:
        train_here(request)
    assert caught.value.hint


def test_a_training_goes_on_with_the_batch_size_it_found(
    model_folder: ModelFolder, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(work / "data" / "train.jsonl", 64)
    request = train_request(model_folder("llama"), work, train={"batch_size": "auto"})
    with pytest.raises(StopRequested):
        train_here(request, reporter := Reporter(stop_at=3))
    found = json.loads(next((work / "checkpoints").glob("*/state.json")).read_text())["state"]["batch_size"]
    assert found > 1
    assert f"train.batch_size: {found} rows a step fit the memory" in reporter.notes
    # With less memory free than then, fewer rows would fit.
    monkeypatch.setattr(memory_model.MemoryModel, "largest_batch", lambda self, limit: 1)
    result, _ = train_here(request)
    assert (result.batch_size, result.steps) == (found, 2 * 64 // found)
    assert result.predicted_peak_bytes is not None
