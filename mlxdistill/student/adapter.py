"""The adapter: its layers, and its two files in mlx-lm's own form.

`mlx_lm.generate --adapter-path` and `mlx_lm.fuse` read what is written here. The bytes depend on the weights alone, so
the same training on the same machine gives the same file.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxdistill.config.models import LoraConfig
from mlxdistill.errors import ModelError
from mlxdistill.rundir.files import atomic_file, make_folder, os_errors, sync_folder, write_json

WEIGHTS_FILE = "adapters.safetensors"
CONFIG_FILE = "adapter_config.json"


@dataclass(frozen=True, slots=True)
class AdapterShape:
    """Which layers carry LoRA, and how: what `adapter_config.json` records."""

    layers: int
    rank: int
    scale: float
    dropout: float
    keys: tuple[str, ...] | None

    def parameters(self) -> dict[str, Any]:
        """`lora_parameters` in mlx-lm's form."""
        found: dict[str, Any] = {"rank": self.rank, "scale": self.scale, "dropout": self.dropout}
        return found if self.keys is None else {**found, "keys": list(self.keys)}


def add_lora(model: Any, lora: LoraConfig, *, seed: int) -> AdapterShape:
    """Puts trainable LoRA layers into a frozen model; the same seed gives the same first weights.

    Raises ModelError where `lora.keys` names no layer.
    """
    import mlx.core as mx

    layers = len(model.layers) if lora.layers == -1 else min(lora.layers, len(model.layers))
    shape = AdapterShape(layers, lora.rank, lora.scale, lora.dropout, lora.keys)
    known = _linear_names(model)
    unknown = [key for key in lora.keys or () if key not in known]
    if unknown:
        hint = f"this model has {', '.join(sorted(known))}"
        raise ModelError(f"no layer is called {unknown[0]!r}", where="student.lora.keys", hint=hint)
    mx.random.seed(seed)
    _insert(model, shape)
    return shape


def load_adapter(model: Any, folder: Path) -> None:
    """Puts a trained adapter on its base. Raises ModelError where it is missing, damaged or another model's."""
    import mlx.core as mx
    from mlx_lm.tuner.utils import load_adapters

    for file in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / file).is_file():
            raise ModelError(f"the adapter's {file} is missing", where=str(folder), hint="train the student first")
    try:
        load_adapters(model, str(folder))
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
    """A safetensors file's bytes: the same for the same weights."""
    import numpy as np
    from safetensors.numpy import save

    return bytes(save({name: np.array(value) for name, value in sorted(weights.items())}))


def write_adapter(
    folder: Path, weights: Mapping[str, Any], shape: AdapterShape, model: str, extra: dict[str, Any]
) -> None:
    """Writes both files and puts them in place at once, over an adapter that was there before.

    Args:
        model: what `mlx_lm` should load the base from.
        extra: further settings to record beside mlx-lm's own.
    """
    config = {
        "fine_tune_type": "lora",
        "model": model,
        "num_layers": shape.layers,
        "lora_parameters": shape.parameters(),
        **extra,
    }
    make_folder(folder.parent)
    made = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    old = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.old")
    try:
        with atomic_file(made / WEIGHTS_FILE) as file:
            file.write(tensor_bytes(weights))
        write_json(made / CONFIG_FILE, dict(sorted(config.items())))
        with os_errors(folder):
            if folder.exists():
                os.replace(folder, old)
            os.replace(made, folder)
            sync_folder(folder.parent)
    finally:
        shutil.rmtree(made, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _linear_names(model: Any) -> set[str]:
    import mlx.nn as nn

    kinds = (nn.Linear, nn.QuantizedLinear)
    return {
        name
        for layer in model.layers
        for name, module in layer.named_modules()
        if isinstance(module, kinds) or hasattr(module, "to_lora")
    }


def _insert(model: Any, shape: AdapterShape) -> None:
    from mlx_lm.tuner.utils import linear_to_lora_layers

    config = shape.parameters()
    if shape.keys is not None:
        config["keys"] = set(shape.keys)
    linear_to_lora_layers(model, shape.layers, config)
