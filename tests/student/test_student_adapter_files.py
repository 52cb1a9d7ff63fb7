"""The adapter's folder is whole, whatever stopped its writing."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mlxdistill.config.models import LoraConfig
from mlxdistill.errors import MlxDistillError
from mlxdistill.student.adapter import AdapterShape, adapter_weights, add_adapter, write_adapter
from mlxdistill.student.base import load_base


def test_writing_sweeps_up_after_a_kill_and_keeps_the_old_adapter_where_the_new_cannot_be_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlx.core as mx

    folder = tmp_path / "adapters"
    shape = AdapterShape("lora", 2, 4, 8.0, 0.0, None)
    for kind in ("tmp", "old"):
        (tmp_path / f".adapters.ab12cd34.{kind}").mkdir()
    (tmp_path / ".adapters-unfinished.ab12cd34.tmp").mkdir()
    write_adapter(folder, {"a": mx.ones(3)}, shape, "model", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == [".adapters-unfinished.ab12cd34.tmp", "adapters"]
    before = (folder / "adapters.safetensors").read_bytes()
    replace = os.replace

    def refuse(source: Path, target: Path) -> None:
        if Path(target) == folder and Path(source).suffix == ".tmp":
            raise OSError(errno.EIO, "the disk is failing")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(MlxDistillError, match="cannot write"):
        write_adapter(folder, {"a": mx.zeros(3)}, shape, "model", {})
    assert (folder / "adapters.safetensors").read_bytes() == before


def test_layers_in_half_precision_are_trained_in_float32_and_written_as_they_were(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    import mlx.core as mx

    model = load_base(str(model_folder("llama"))).model
    model.set_dtype(mx.bfloat16)
    shape = add_adapter(model, "full", LoraConfig(layers=1), seed=0)
    trained = adapter_weights(model)
    assert {value.dtype for value in trained.values()} == {mx.float32}
    write_adapter(tmp_path / "adapters", trained, shape, "base", {})
    written = mx.load(str(tmp_path / "adapters" / "adapters.safetensors"))
    assert written.keys() == trained.keys()
    assert {value.dtype for value in written.values()} == {mx.bfloat16}
