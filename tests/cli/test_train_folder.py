"""`train --data` puts the adapter where `mlx_lm.lora` would; the training itself is a stand-in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxdistill.student.requests import TrainRequest, TrainResult

RESULT = TrainResult(16, 4, 4, 0.5, 10.0, 100.0, 1_234_000_000, 1, 0, 1.0, False, 0, 1.0, ())


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[TrainRequest]:
    requests: list[TrainRequest] = []

    def train(request: TrainRequest, *_: object) -> TrainResult:
        requests.append(request)
        request.output.mkdir(parents=True)
        for name in ("adapters.safetensors", "adapter_config.json"):
            (request.output / name).write_text(f"{name} {len(requests)}")
        return RESULT

    monkeypatch.setattr("mlxdistill.cli.plain.train_student", train)
    return requests


@pytest.mark.parametrize(
    ("flags", "folder"),
    [([], "adapters"), (["--adapter-path", "there"], "there"), (["--run-dir", "there"], "there")],
    ids=["default", "adapter-path", "run-dir"],
)
def test_the_adapter_lies_in_the_folder_itself(
    call, asked: list[TrainRequest], tmp_path: Path, flags: list[str], folder: str
) -> None:
    for time in (1, 2):
        result = call("train", "--model", "embedded:student", "--data", tmp_path, "--quiet", *flags)
        assert result.returncode == 0, result.stderr
        assert result.stdout == f"{tmp_path / folder}\n"
        assert (tmp_path / folder / "adapters.safetensors").read_text() == f"adapters.safetensors {time}"
        assert (tmp_path / folder / "adapter_config.json").read_text() == f"adapter_config.json {time}"
    assert asked[0].checkpoints == tmp_path / folder / "checkpoints"
    assert {path.name for path in (tmp_path / folder).iterdir()} == {
        ".lock",
        "adapters.safetensors",
        "adapter_config.json",
    }


def test_what_came_of_it_is_said_with_the_memory_it_took(call, asked: list[TrainRequest], tmp_path: Path) -> None:
    result = call("train", "--model", "embedded:student", "--data", tmp_path)
    assert "4 steps, 10.0 rows/s, best validation loss 0.500 at step 4, peak memory 1.2 GB\n" in result.stderr


def test_a_folder_with_another_tools_adapter_is_left_alone(call, asked: list[TrainRequest], tmp_path: Path) -> None:
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "adapters.safetensors").write_text("mlx-lm's")
    result = call("train", "--model", "embedded:student", "--data", tmp_path)
    assert result.returncode == 2
    assert "holds other files" in result.stderr
    assert not asked


def test_the_environment_applies(
    call, asked: list[TrainRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLXDISTILL_TRAIN__EPOCHS", "7")
    result = call("train", "--model", "embedded:student", "--data", tmp_path, "--json")
    assert json.loads(result.stdout)["adapter"] == str(tmp_path / "adapters")
    assert asked[0].train.epochs == 7


def test_a_base_quantized_for_the_training_is_to_be_quantized_for_mlx_lm_too(
    call, asked: list[TrainRequest], tmp_path: Path
) -> None:
    flags = ("--fine-tune-type", "dora", "--set", "student.quantize=4")
    result = call("train", "--model", "embedded:student", "--data", tmp_path, *flags)
    assert (asked[0].fine_tune_type, asked[0].quantize) == ("dora", 4)
    assert "mlx_lm.convert --hf-path embedded:student --mlx-path quantized --quantize --q-bits 4\n" in result.stdout
    assert f"mlx_lm.generate --model quantized --adapter-path {tmp_path / 'adapters'}\n" in result.stdout


def test_an_unknown_kind_of_fine_tuning_is_refused(call, asked: list[TrainRequest], tmp_path: Path) -> None:
    result = call("train", "--model", "embedded:student", "--data", tmp_path, "--fine-tune-type", "lra")
    assert result.returncode == 2
    assert "student.fine_tune_type" in result.stderr
    assert not asked
