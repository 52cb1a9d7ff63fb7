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

from mlxdistill.config.models import LoraConfig
from mlxdistill.errors import ModelError
from mlxdistill.student.adapter import add_adapter, check_fine_tune_type, load_adapter
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


def test_an_adapter_that_lacks_a_layer_is_refused(model_folder: ModelFolder, trained: Path, tmp_path: Path) -> None:
    import mlx.core as mx

    weights = mx.load(str(trained / "adapters" / "adapters.safetensors"))
    lost = min(weights)
    mx.save_safetensors(
        str(tmp_path / "adapters.safetensors"), {name: value for name, value in weights.items() if name != lost}
    )
    (tmp_path / "adapter_config.json").write_bytes((trained / "adapters" / "adapter_config.json").read_bytes())
    with pytest.raises(ModelError, match=f"{lost} is missing"):
        load_adapter(load_base(str(model_folder("llama"))).model, tmp_path)


def mixture() -> Any:
    from mlx_lm.models import mixtral

    sizes = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2}
    model = mixtral.Model(mixtral.ModelArgs(model_type="mixtral", **sizes, **heads))
    model.freeze()
    return model


@pytest.mark.parametrize(
    ("settings", "message", "hint"),
    [
        ({"keys": ("self_attn.qproj",)}, "no layer is called 'self_attn.qproj'", "self_attn.q_proj"),
        ({"keys": ("self_attn.q_proj", "mlp")}, "no layer is called 'mlp'", "mlp.up_proj"),
        ({"keys": ()}, "no layer is named", "model.embed_tokens"),
    ],
)
@pytest.mark.parametrize("fine_tune_type", ["lora", "dora"])
def test_keys_that_name_nothing_are_refused(
    model_folder: ModelFolder, settings: dict[str, Any], message: str, hint: str, fine_tune_type: Any
) -> None:
    model = load_base(str(model_folder("llama"))).model
    with pytest.raises(ModelError, match=message) as caught:
        add_adapter(model, fine_tune_type, LoraConfig(**settings), seed=0)
    assert caught.value.where == "student.lora.keys"
    assert hint in (caught.value.hint or "")


def test_keys_of_layers_below_the_trained_ones_are_refused(model_folder: ModelFolder) -> None:
    import mlx.nn as nn

    model = load_base(str(model_folder("llama"))).model
    model.layers[0].below = nn.Linear(4, 4)
    with pytest.raises(ModelError, match="no layer is called 'below'"):
        add_adapter(model, "lora", LoraConfig(layers=1, keys=("below",)), seed=0)


def test_dora_where_mlx_lm_has_none_is_refused_and_says_where_it_can_be(model_folder: ModelFolder) -> None:
    experts = "block_sparse_moe.switch_mlp.down_proj"
    with pytest.raises(ModelError, match=f"DoRA cannot be put on {experts}") as caught:
        add_adapter(mixture(), "dora", LoraConfig(), seed=0)
    assert "self_attn.q_proj" in (caught.value.hint or "")
    assert experts not in (caught.value.hint or "")
    quantized = load_base(str(model_folder("llama")), 4).model
    with pytest.raises(ModelError, match="QuantizedEmbedding"):
        add_adapter(quantized, "dora", LoraConfig(keys=("model.embed_tokens",)), seed=0)


@pytest.mark.parametrize(("fine_tune_type", "keys"), [("lora", None), ("dora", ("self_attn.q_proj",))])
def test_a_mixture_of_experts_trains_where_it_can(fine_tune_type: Any, keys: tuple[str, ...] | None) -> None:
    import mlx.core as mx
    import mlx.nn as nn
    from mlx.utils import tree_flatten

    model = mixture()
    add_adapter(model, fine_tune_type, LoraConfig(rank=2, keys=keys), seed=0)
    found = nn.value_and_grad(model, lambda: (model(mx.array([[1, 2, 3]])) ** 2).mean())()[1]
    gradients = dict(tree_flatten(found))
    assert any("switch_mlp" in name for name in gradients) == (keys is None)
    assert all(mx.abs(value).max().item() > 0 for name, value in gradients.items() if name.endswith("lora_b"))


def test_quantized_weights_are_not_trained_in_full(model_folder: ModelFolder) -> None:
    for refused in (
        lambda: add_adapter(load_base(str(model_folder("llama")), 4).model, "full", LoraConfig(), seed=0),
        lambda: check_fine_tune_type("full", {"quantization": {"bits": 4}}),
    ):
        with pytest.raises(ModelError, match="cannot be trained in full") as caught:
            refused()
        assert caught.value.where == "student.fine_tune_type"
        assert "lora" in (caught.value.hint or "")
    check_fine_tune_type("dora", {"quantization": {"bits": 4}})
    check_fine_tune_type("full", {})


@pytest.mark.parametrize(("layers", "trained"), [(1, {1}), (16, {0, 1}), (-1, {0, 1})])
def test_full_trains_the_top_layers_and_nothing_else(model_folder: ModelFolder, layers: int, trained: set[int]) -> None:
    from mlx.utils import tree_flatten

    model = load_base(str(model_folder("llama"))).model
    shape = add_adapter(model, "full", LoraConfig(layers=layers), seed=0)
    names = [name for name, _ in tree_flatten(model.trainable_parameters())]
    every = [name for name, _ in tree_flatten(model.parameters())]
    assert names == [name for name in every if any(name.startswith(f"model.layers.{number}.") for number in trained)]
    assert (shape.layers, shape.parameters()) == (len(trained), None)
