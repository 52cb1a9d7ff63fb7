"""What is trained here, mlx-lm's own commands read: the same logits when loaded, and when fused."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_students import SHAPES, make_model, train_here, train_request, write_rows

from mlxdistill.student.adapter import CONFIG_FILE, WEIGHTS_FILE, load_adapter
from mlxdistill.student.base import load_base

ModelFolder = Callable[[str], Path]
PROMPT = [[5, 6, 7, 8, 9, 10, 301, 40], [40, 301, 10, 9, 8, 7, 6, 5]]


@dataclass(frozen=True)
class Case:
    """`bits`: of a base that is quantized before; `changes`: to the training's request."""

    kind: str
    changes: dict[str, Any]
    bits: int | None = None


CASES = {
    "lora": Case("llama", {}),
    "lora, rank-stabilised, some layers": Case("mistral", {"lora": {"rslora": True, "layers": 1, "rank": 9}}),
    "lora with dropout and keys": Case("gemma2", {"lora": {"dropout": 0.1, "keys": ("mlp.up_proj", "mlp.down_proj")}}),
    "lora on the embedding": Case("smollm3", {"lora": {"keys": ("model.embed_tokens", "self_attn.v_proj")}}),
    "dora": Case("qwen3", {"fine_tune_type": "dora"}),
    "dora with biases": Case("qwen2", {"fine_tune_type": "dora"}),
    "dora on the embedding": Case("llama", {"fine_tune_type": "dora", "lora": {"keys": ("model.embed_tokens",)}}),
    "full": Case("gemma3_text", {"fine_tune_type": "full"}),
    "full, the top layer": Case("phi3", {"fine_tune_type": "full", "lora": {"layers": 1}}),
    "qlora of 4 bits": Case("llama", {}, bits=4),
    "qlora of 8 bits": Case("phi3", {"lora": {"rslora": True}}, bits=8),
    "dora of 4 bits": Case("mistral", {"fine_tune_type": "dora"}, bits=4),
}


def logits(model: Any) -> NDArray[np.float32]:
    import mlx.core as mx

    model.eval()
    return np.array(model(mx.array(PROMPT)).astype(mx.float32))


def student(model: Path, adapters: Path, quantize: int | None = None) -> NDArray[np.float32]:
    """Logits of our own student, which differ from its base's."""
    base = load_base(str(model), quantize)
    before = logits(base.model)
    load_adapter(base.model, adapters)
    after = logits(base.model)
    assert np.abs(after - before).max() > 1e-2
    return after


def loaded(model: Path, adapters: Path) -> NDArray[np.float32]:
    """As `mlx_lm.generate --model MODEL --adapter-path ADAPTERS` loads it."""
    from mlx_lm.utils import load

    return logits(load(str(model), adapter_path=str(adapters))[0])


def mlx_lm(monkeypatch: pytest.MonkeyPatch, command: str, *arguments: object) -> None:
    """Runs one of mlx-lm's commands in this process."""
    import importlib

    monkeypatch.setattr(sys, "argv", [f"mlx_lm.{command}", *map(str, arguments)])
    importlib.import_module(f"mlx_lm.{command}").main()


def fused(monkeypatch: pytest.MonkeyPatch, model: Path, adapters: Path, folder: Path, *flags: str) -> Path:
    mlx_lm(monkeypatch, "fuse", "--model", model, "--adapter-path", adapters, "--save-path", folder, *flags)
    return folder


def quantized(monkeypatch: pytest.MonkeyPatch, model: Path, folder: Path, bits: int) -> Path:
    flags = ("--quantize", "--q-bits", bits)
    mlx_lm(monkeypatch, "convert", "--hf-path", model, "--mlx-path", folder, *flags)
    return folder


def trained(work: Path, model: Path, **changes: Any) -> Path:
    write_rows(work / "data" / "train.jsonl", 12)
    train = {"epochs": 1, "batch_size": 6, "learning_rate": 3e-2, "warmup": 0.0, **changes.pop("train", {})}
    train_here(train_request(model, work, train=train, **changes))
    return work / "adapters"


@pytest.mark.parametrize("name", CASES)
def test_mlx_lm_loads_and_fuses_it_to_the_same_logits(
    model_folder: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    case = CASES[name]
    model = model_folder(case.kind)
    if case.bits is not None:
        model = quantized(monkeypatch, model, tmp_path / "quantized", case.bits)
    adapters = trained(tmp_path, model, **case.changes)
    expected = student(model, adapters)
    np.testing.assert_allclose(loaded(model, adapters), expected, atol=1e-4)
    # Fused into quantized weights again, an adapter loses what they cannot hold.
    flags = ["--dequantize"] if case.bits is not None else []
    whole = fused(monkeypatch, model, adapters, tmp_path / "fused", *flags)
    np.testing.assert_allclose(logits(load_base(str(whole)).model), expected, atol=1e-4)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_base_quantized_for_training_is_the_one_that_mlx_lms_convert_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: int
) -> None:
    monkeypatch.setitem(SHAPES, "qwen2", {"hidden_size": 64, "intermediate_size": 128})
    model = make_model(tmp_path / "model", "qwen2")
    adapters = trained(tmp_path, model, quantize=bits)
    expected = student(model, adapters, bits)
    assert np.abs(loaded(model, adapters) - expected).max() > 1e-3
    converted = quantized(monkeypatch, model, tmp_path / "converted", bits)
    np.testing.assert_allclose(loaded(converted, adapters), expected, atol=1e-4)


def test_the_scale_written_is_the_one_used(model_folder: ModelFolder, tmp_path: Path) -> None:
    adapters = trained(tmp_path, model_folder("llama"), lora={"rslora": True})
    config = json.loads((adapters / CONFIG_FILE).read_text())
    assert config["lora_parameters"] == {"rank": 4, "scale": 4.0, "dropout": 0.0}


@pytest.mark.parametrize(("fine_tune_type", "leaves"), [("dora", {"lora_a", "lora_b", "m"}), ("full", {"weight"})])
def test_the_files_hold_what_was_trained(
    model_folder: ModelFolder, tmp_path: Path, fine_tune_type: str, leaves: set[str]
) -> None:
    import mlx.core as mx

    changes: dict[str, Any] = {"fine_tune_type": fine_tune_type, "lora": {"layers": 1}}
    adapters = trained(tmp_path, model_folder("llama"), **changes)
    config = json.loads((adapters / CONFIG_FILE).read_text())
    assert (config["fine_tune_type"], config["num_layers"]) == (fine_tune_type, 1)
    assert (config["lora_parameters"] is None) == (fine_tune_type == "full")
    names = mx.load(str(adapters / WEIGHTS_FILE)).keys()
    assert {name.rsplit(".")[-1] for name in names} == leaves
    assert all(name.startswith("model.layers.1.") for name in names)


def test_a_fused_student_is_a_base_like_any_other(
    model_folder: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_folder("llama")
    whole = fused(monkeypatch, model, trained(tmp_path / "first", model), tmp_path / "fused")
    again = trained(tmp_path / "second", whole, fine_tune_type="dora")
    np.testing.assert_allclose(loaded(whole, again), student(whole, again), atol=1e-4)


def test_an_adapter_goes_on_from_a_folder_that_was_copied(model_folder: ModelFolder, tmp_path: Path) -> None:
    model = model_folder("llama")
    adapters = trained(tmp_path, model)
    shutil.copytree(adapters, tmp_path / "copied")
    np.testing.assert_array_equal(student(model, tmp_path / "copied"), student(model, adapters))
