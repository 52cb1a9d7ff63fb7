"""The adapter: what of a model is trained, and its two files in mlx-lm's own form.

Either small layers beside the frozen ones (LoRA: Hu et al., 2021; DoRA: Liu et al., 2024; over a quantized base, QLoRA:
Dettmers et al., 2023), or the top layers themselves, in full. `mlx_lm.generate --adapter-path` and `mlx_lm.fuse` read
what is written here. The bytes depend on the weights alone, so the same training on the same machine gives the same
file.
"""

from __future__ import annotations

import glob
import io
import math
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlxdistill.config.models import FineTuneType, LoraConfig
from mlxdistill.errors import ModelError
from mlxdistill.rundir.files import atomic_file, make_folder, os_errors, sync_folder, write_json

WEIGHTS_FILE = "adapters.safetensors"
CONFIG_FILE = "adapter_config.json"
_KEYS = "student.lora.keys"


@dataclass(frozen=True, slots=True)
class AdapterShape:
    """What is trained, and how: what `adapter_config.json` records.

    Attributes:
        layers: how many, counted from the top.
        scale: what LoRA's product is multiplied with; with rsLoRA, the configured one over the square root of the rank.
        dtypes: of the base's weights that are trained in full; they are written in these.
    """

    fine_tune_type: FineTuneType
    layers: int
    rank: int
    scale: float
    dropout: float
    keys: tuple[str, ...] | None
    dtypes: Mapping[str, Any] = field(default_factory=dict)

    def parameters(self) -> dict[str, Any] | None:
        """`lora_parameters` in mlx-lm's form; None where layers are trained in full."""
        if self.fine_tune_type == "full":
            return None
        found: dict[str, Any] = {"rank": self.rank, "scale": self.scale, "dropout": self.dropout}
        return found if self.keys is None else {**found, "keys": list(self.keys)}


def add_adapter(model: Any, fine_tune_type: FineTuneType, lora: LoraConfig, *, seed: int) -> AdapterShape:
    """Makes a part of a frozen model trainable: LoRA or DoRA layers, or its top layers themselves.

    The same seed gives the same first weights. rsLoRA's scale is Kalajdzievski's (2023): over the square root of the
    rank, so that the update's size does not depend on the rank.

    Raises ModelError where `lora.keys` names no layer, or a layer that DoRA does not know, and where layers of a
    quantized model would be trained in full.
    """
    import mlx.core as mx

    layers = len(model.layers) if lora.layers == -1 else min(lora.layers, len(model.layers))
    scale = lora.scale / math.sqrt(lora.rank) if lora.rslora else lora.scale
    shape = AdapterShape(fine_tune_type, layers, lora.rank, scale, lora.dropout, lora.keys)
    if fine_tune_type == "full":
        if any("scales" in module for _, module in model.named_modules()):
            raise _quantized_in_full()
        for layer in model.layers[-layers:]:
            layer.unfreeze()
        return replace(shape, dtypes=_train_in_float32(model))
    _check_keys(model, shape)
    mx.random.seed(seed)
    _insert(model, shape)
    return shape


def _train_in_float32(model: Any) -> dict[str, Any]:
    """The types that the weights to train had. In half precision a small step is rounded away, or AdamW's second moment
    becomes 0."""
    import mlx.core as mx

    weights = adapter_weights(model)
    model.load_weights([(name, value.astype(mx.float32)) for name, value in weights.items()], strict=False)
    return {name: value.dtype for name, value in weights.items()}


def check_fine_tune_type(fine_tune_type: FineTuneType, config: Mapping[str, Any]) -> None:
    """Raises ModelError where the model of this config.json cannot be trained so, before anything is loaded."""
    if fine_tune_type == "full" and ("quantization" in config or "quantization_config" in config):
        raise _quantized_in_full()


def _quantized_in_full() -> ModelError:
    """Quantized weights have no gradients."""
    return ModelError(
        "a quantized model cannot be trained in full",
        where="student.fine_tune_type",
        hint="set it to lora or dora, which train beside the quantized weights, or use the float version of the model",
    )


def load_adapter(model: Any, folder: Path) -> None:
    """Puts a trained adapter on its base. Raises ModelError where it is missing, damaged or another model's."""
    import mlx.core as mx
    from mlx_lm.tuner.utils import load_adapters

    for file in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / file).is_file():
            raise ModelError(f"the adapter's {file} is missing", where=str(folder), hint="train the student first")
    try:
        load_adapters(model, str(folder))
        given: Any = mx.load(str(folder / WEIGHTS_FILE))
        missing = adapter_weights(model).keys() - given.keys()
        if missing:
            raise ValueError(f"{min(missing)} is missing")
        mx.eval(model.parameters())
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or ["unreadable"])[0]
        message = f"the adapter does not fit this model ({reason})"
        raise ModelError(
            message, where=str(folder), hint="use the model it was trained on, or train it anew"
        ) from error


def adapter_weights(model: Any) -> dict[str, Any]:
    """The trainable weights under mlx-lm's names, sorted."""
    from mlx.utils import tree_flatten

    return dict(sorted(tree_flatten(model.trainable_parameters())))


def tensor_bytes(weights: Mapping[str, Any]) -> bytes:
    """A safetensors file's bytes: the same for the same weights.

    By MLX, because NumPy has no bfloat16, in which layers of most models are trained in full.
    """
    import mlx.core as mx

    file = io.BytesIO()
    mx.save_safetensors(file, dict(sorted(weights.items())), metadata={"format": "mlx"})
    return file.getvalue()


def write_adapter(
    folder: Path, weights: Mapping[str, Any], shape: AdapterShape, model: str, extra: dict[str, Any]
) -> None:
    """Writes both files and puts them in place at once, over an adapter that was there before.

    Args:
        model: what `mlx_lm` should load the base from.
        extra: further settings to record beside mlx-lm's own.
    """
    config = {
        "fine_tune_type": shape.fine_tune_type,
        "model": model,
        "num_layers": shape.layers,
        "lora_parameters": shape.parameters(),
        **extra,
    }
    make_folder(folder.parent)
    made = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    old = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.old")
    try:
        given = {name: value.astype(shape.dtypes.get(name, value.dtype)) for name, value in weights.items()}
        with atomic_file(made / WEIGHTS_FILE) as file:
            file.write(tensor_bytes(given))
        write_json(made / CONFIG_FILE, dict(sorted(config.items())))
        with os_errors(folder):
            if folder.exists():
                os.replace(folder, old)
            os.replace(made, folder)
            sync_folder(folder.parent)
    finally:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        for left in folder.parent.glob(f".{glob.escape(folder.name)}.*"):
            if left.suffix in (".tmp", ".old"):  # also of a process that was killed here
                shutil.rmtree(left, ignore_errors=True)


def _check_keys(model: Any, shape: AdapterShape) -> None:
    """Raises ModelError where keys name nothing that can be adapted, or DoRA would meet a layer it does not know."""
    import mlx.nn as nn

    within = {id(module) for layer in model.layers for _, module in layer.named_modules()}
    inside = _adaptable(named for layer in model.layers[-shape.layers :] for named in layer.named_modules())
    outside = _adaptable(named for named in model.named_modules() if id(named[1]) not in within)
    found = {**outside, **inside}
    unknown = [key for key in shape.keys or () if key not in found]
    if unknown or shape.keys == ():
        message = f"no layer is called {unknown[0]!r}" if unknown else "no layer is named"
        raise ModelError(message, where=_KEYS, hint=f"this model has {', '.join(sorted(found))}")
    if shape.fine_tune_type != "dora":
        return
    # mlx-lm's DoRA takes a quantized embedding for a float one, and has none for a mixture's experts.
    known = {
        name for name, module in found.items() if isinstance(module, nn.Linear | nn.QuantizedLinear | nn.Embedding)
    }
    for key in inside if shape.keys is None else shape.keys:
        if key not in known:
            hint = f"choose from {', '.join(sorted(known))}, or set student.fine_tune_type to lora"
            raise ModelError(f"DoRA cannot be put on {key} ({type(found[key]).__name__})", where=_KEYS, hint=hint)


def _adaptable(modules: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Those that LoRA can be put on, one for each name."""
    import mlx.nn as nn
    from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear

    kinds = (nn.Linear, nn.QuantizedLinear, nn.Embedding, nn.QuantizedEmbedding, SwitchLinear, QuantizedSwitchLinear)
    return {name: module for name, module in modules if isinstance(module, kinds) or hasattr(module, "to_lora")}


def _insert(model: Any, shape: AdapterShape) -> None:
    from mlx_lm.tuner.utils import linear_to_lora_layers

    config = shape.parameters()
    assert config is not None
    if shape.keys is not None:
        config["keys"] = set(shape.keys)
    linear_to_lora_layers(model, shape.layers, config, use_dora=shape.fine_tune_type == "dora")
