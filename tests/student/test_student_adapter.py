"""mlx-lm's own commands read our adapter, and give what our student gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_students import make_model, train_here, train_request, write_rows

from mlxdistill.errors import ModelError
from mlxdistill.student.adapter import load_adapter
from mlxdistill.student.base import load_base

ModelFolder = Callable[[str], Path]


@pytest.fixture(scope="module")
def trained(model_folder: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("trained")
    write_rows(work / "data" / "train.jsonl", 16)
    write_rows(work / "data" / "valid.jsonl", 8, seed=1)
    train_here(train_request(model_folder("llama"), work, train={"epochs": 1}))
    return work


def logits(model: Any) -> np.ndarray:
    import mlx.core as mx

    return np.array(model(mx.array([[5, 6, 7, 8, 9, 10]])))


def ours(model: Path, adapters: Path) -> np.ndarray:
    base = load_base(str(model))
    before = logits(base.model)
    load_adapter(base.model, adapters)
    after = logits(base.model)
    assert np.abs(after - before).max() > 1e-3
    return after


def test_mlx_lm_loads_the_adapter_and_gives_identical_logits(model_folder: ModelFolder, trained: Path) -> None:
    from mlx_lm import load

    theirs, _ = load(str(model_folder("llama")), adapter_path=str(trained / "adapters"))
    np.testing.assert_array_equal(logits(theirs), ours(model_folder("llama"), trained / "adapters"))


def test_mlx_lm_fuses_the_adapter(model_folder: ModelFolder, trained: Path, tmp_path: Path) -> None:
    model = model_folder("llama")
    command = [
        sys.executable,
        "-m",
        "mlx_lm",
        "fuse",
        "--model",
        str(model),
        "--adapter-path",
        str(trained / "adapters"),
    ]
    subprocess.run([*command, "--save-path", str(tmp_path / "fused")], check=True, capture_output=True, env=os.environ)
    fused = load_base(str(tmp_path / "fused"))
    np.testing.assert_allclose(logits(fused.model), ours(model, trained / "adapters"), atol=1e-4)


def test_the_configuration_is_mlx_lms_own(model_folder: ModelFolder, trained: Path) -> None:
    config = json.loads((trained / "adapters" / "adapter_config.json").read_text())
    assert config == {
        "fine_tune_type": "lora",
        "lora_parameters": {"rank": 4, "scale": 8.0, "dropout": 0.0},
        "model": str(model_folder("llama")),
        "num_layers": 2,
    }


def test_an_adapter_of_another_model_is_refused(trained: Path, tmp_path: Path) -> None:
    base = load_base(str(make_model(tmp_path / "smaller", layers=1)))
    with pytest.raises(ModelError, match="does not fit this model") as caught:
        load_adapter(base.model, trained / "adapters")
    assert caught.value.where == str(trained / "adapters")


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_missing_or_damaged_adapter_is_refused(
    model_folder: ModelFolder, trained: Path, tmp_path: Path, damage: str
) -> None:
    for file in (trained / "adapters").iterdir():
        content = file.read_bytes()
        if file.suffix == ".safetensors":
            if damage == "missing":
                continue
            content = content[:-10]
        (tmp_path / file.name).write_bytes(content)
    with pytest.raises(ModelError, match="adapter") as caught:
        load_adapter(load_base(str(model_folder("llama"))).model, tmp_path)
    assert caught.value.hint
