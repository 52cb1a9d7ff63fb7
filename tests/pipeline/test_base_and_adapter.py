"""A student is its base and its adapter: neither is used without the other, nor trained in a way it cannot be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mlxdistill.config.load import load_config
from mlxdistill.config.models import Config
from mlxdistill.errors import DataError, ModelError
from mlxdistill.pipeline.train import STAGE, _student_inputs, check_finished
from mlxdistill.platform.models import find_model_folder
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.manifest import Manifest, Work

CONFIG = """
task: {type: classification, instruction: Judge it., labels: {ok: civil, bad: rude}}
data: {source: rows.jsonl}
teacher: {log: requests.jsonl}
student: {model: ./base}
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base of its own in `tmp_path`."""
    return Path(shutil.copytree(find_model_folder("embedded:student"), tmp_path / "base"))


def config_of(folder: Path, *settings: str) -> Config:
    (folder / "config.yaml").write_text(CONFIG)
    return load_config(folder / "config.yaml", settings, environment={}).config


def test_an_adapter_is_not_put_on_another_base(tmp_path: Path, base: Path) -> None:
    config, run = config_of(tmp_path), RunDir(tmp_path / "run")
    run.adapters.mkdir(parents=True)
    weights = run.adapters / "adapters.safetensors"
    weights.write_bytes(b"trained")
    manifest = Manifest(run)
    manifest.finish("train", manifest.start("train", _student_inputs(config)), [weights], Work(1, 1), {})
    check_finished(config, run)
    with pytest.raises(DataError, match="has changed since this student was trained"):
        check_finished(config_of(tmp_path, "student.fine_tune_type=dora"), run)
    content = bytearray((base / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (base / "model.safetensors").write_bytes(content)
    with pytest.raises(DataError, match="has changed since this student was trained") as caught:
        check_finished(config, run)
    assert "trains it anew" in (caught.value.hint or "")


def test_a_quantized_base_to_be_trained_in_full_is_refused_before_anything_is_labelled(
    tmp_path: Path, base: Path
) -> None:
    def look(*settings: str) -> None:
        for need in STAGE.needs(config_of(tmp_path, *settings)):
            need.look()

    look("student.fine_tune_type=full")
    found = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**found, "quantization": {"bits": 4, "group_size": 64}}))
    look("student.fine_tune_type=lora")
    with pytest.raises(ModelError, match="a quantized model cannot be trained in full"):
        look("student.fine_tune_type=full")
