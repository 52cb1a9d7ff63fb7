"""What can be wrong with a model's folder, found before anything is trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_students import CHATML, make_model

from mlxdistill.errors import ModelError
from mlxdistill.student.base import check_chat_template, check_folder, load_base, read_chat_template

ModelFolder = Callable[[str], Path]


def edit(path: Path, **changes: object) -> None:
    found = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


def only_pickles(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def other_names(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "weights.safetensors")


def cut_weights(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "code of its own": (lambda f: edit(f / "config.json", auto_map={"AutoModel": "x.Y"}), "auto_map"),
    "a model file": (lambda f: edit(f / "config.json", model_file="model.py"), "model_file"),
    "code in the tokenizer": (lambda f: edit(f / "tokenizer_config.json", auto_map={"AutoTokenizer": "x"}), "auto_map"),
    "pickles": (only_pickles, "pickled"),
    "other weight names": (other_names, "not in model"),
    "cut weights": (cut_weights, r"model.safetensors is cut short: \d+ bytes of at least \d+"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json is missing"),
    "no tokenizer configuration": (
        lambda f: (f / "tokenizer_config.json").unlink(),
        "tokenizer_config.json is missing",
    ),
    "broken tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json holds no vocabulary"),
    "a tokenizer that is no JSON": (lambda f: (f / "tokenizer.json").write_text("<html>"), "json is not valid JSON"),
    "a tokenizer of bytes": (lambda f: (f / "tokenizer.json").write_bytes(b"\xff"), "tokenizer.json is not UTF-8"),
    "a configuration nested too deep": (lambda f: (f / "config.json").write_text("[" * 10**5), "not valid JSON"),
    "broken configuration": (lambda f: (f / "config.json").write_text("{"), "not valid JSON"),
    "no type": (lambda f: edit(f / "config.json", model_type=None), "model_type"),
    "unknown type": (lambda f: edit(f / "config.json", model_type="abacus"), "abacus"),
    "another shape": (lambda f: edit(f / "config.json", hidden_size=32), "hape"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_cannot_be_used_is_refused_with_its_mend(
    model_folder: ModelFolder, tmp_path: Path, fault: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder("llama"), folder)
    change, message = FAULTS[fault]
    change(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load_base(str(folder))
    assert caught.value.where == str(folder)
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_an_adapter_given_as_a_model_is_told_from_a_broken_model(tmp_path: Path) -> None:
    for name in ("adapter_config.json", "adapters.safetensors"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ModelError, match="an adapter, not a whole model") as caught:
        load_base(str(tmp_path))
    assert "mlx_lm.fuse" in (caught.value.hint or "")


def test_a_model_without_a_template_is_refused_only_for_chats(tmp_path: Path) -> None:
    base = load_base(str(make_model(tmp_path / "plain", template=None)))
    with pytest.raises(ModelError, match="no chat template") as caught:
        base.tokenizer.frame(("user", "assistant"))
    assert "instruct" in (caught.value.hint or "")


def test_damage_is_found_before_the_model_is_opened(model_folder: ModelFolder, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder("llama"), folder)
    assert check_folder(str(folder))[0] == folder
    cut_weights(folder)
    with pytest.raises(ModelError, match="cut short"):
        check_folder(str(folder))


@pytest.mark.parametrize(
    ("template", "message"),
    [(None, "no chat template"), ("{% if %}", "fails in its line 1"), ("hello", "leaves out a message")],
)
def test_a_template_that_cannot_be_used_is_refused(tmp_path: Path, template: str | None, message: str) -> None:
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"bos_token": {"content": "<s>"}, "eos_token": "</s>"}))
    (tmp_path / "chat_template.jinja").write_text("{{ bos_token + eos_token }}" + CHATML)
    check_chat_template(tmp_path, "m")
    (tmp_path / "chat_template.jinja").unlink()
    edit(config, chat_template=template)
    with pytest.raises(ModelError, match=message) as caught:
        check_chat_template(tmp_path, "m")
    assert caught.value.where == "m"
    assert caught.value.hint


def test_templates_are_found_wherever_they_are_kept(model_folder: ModelFolder, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder("llama"), folder)
    assert read_chat_template(folder, "m") == CHATML
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}]
    edit(folder / "tokenizer_config.json", chat_template=named)
    assert read_chat_template(folder, "m") == "yes"
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "json"}))
    assert read_chat_template(folder, "m") == "json"
    (folder / "chat_template.jinja").write_text("jinja")
    assert read_chat_template(folder, "m") == "jinja"


def test_half_precision_becomes_float32_without_metal(model_folder: ModelFolder, tmp_path: Path) -> None:
    import mlx.core as mx
    from mlx.utils import tree_flatten

    folder = tmp_path / "half"
    shutil.copytree(model_folder("llama"), folder)
    weights = {name: value.astype(mx.bfloat16) for name, value in mx.load(str(folder / "model.safetensors")).items()}
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    model = load_base(str(folder)).model
    assert {value.dtype for _, value in tree_flatten(model.parameters())} == {mx.float32}


def test_a_float_base_is_quantized_and_a_quantized_one_refused(model_folder: ModelFolder, tmp_path: Path) -> None:
    import mlx.core as mx
    import mlx.nn as nn
    from mlx_lm.utils import save_config

    base = load_base(str(model_folder("llama")), quantize=8)
    layer = base.model.layers[0].mlp
    # Inputs 64 wide take groups of 64; 96 is no multiple of it, but of 32.
    assert (layer.up_proj.group_size, layer.down_proj.group_size) == (64, 32)
    plain = load_base(str(model_folder("llama")))
    inputs = mx.array([[5, 6, 7, 8]])
    assert np.abs(np.array(base.model(inputs) - plain.model(inputs))).max() < 0.05

    folder = tmp_path / "quantized"
    shutil.copytree(model_folder("llama"), folder)
    nn.quantize(plain.model, group_size=32, bits=4)
    plain.model.save_weights(str(folder / "model.safetensors"))
    save_config({**plain.config, "quantization": {"group_size": 32, "bits": 4}}, folder / "config.json")
    assert isinstance(load_base(str(folder)).model.layers[0].mlp.up_proj, nn.QuantizedLinear)
    with pytest.raises(ModelError, match="quantized already"):
        load_base(str(folder), quantize=4)
