"""Names of models lead to files on this disk, or to a line that says what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxdistill.errors import ModelError
from mlxdistill.platform.models import find_gguf, find_model_folder, is_hub_id, model_fingerprint


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pulled(root: Path, name: str, *files: str, revision: str = "abc123", main: bool = True) -> Path:
    repository = root / "hf" / "hub" / ("models--" + name.replace("/", "--"))
    snapshot = repository / "snapshots" / revision
    for file in files:
        (snapshot / file).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / file).write_bytes(b"x")
    if main:
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / "main").write_text(revision)
    return snapshot


def refused(find: object, name: str) -> ModelError:
    assert callable(find)
    with pytest.raises(ModelError) as raised:
        find(name)
    assert raised.value.where
    assert raised.value.hint
    return raised.value


def test_paths(caches: Path) -> None:
    file = caches / "models" / "teacher.gguf"
    file.parent.mkdir()
    file.write_bytes(b"x")
    for name in (str(file), "models/teacher.gguf", "./models/teacher.gguf", "~/models/teacher.gguf", "models"):
        assert find_gguf(name).resolve() == file.resolve()
    assert "no such model" in refused(find_gguf, "models/other.gguf").message
    assert "no such model" in refused(find_gguf, "./nothing").message
    assert "no such model" in refused(find_gguf, "~/nothing").message


def test_pulled_gguf(caches: Path) -> None:
    snapshot = pulled(caches, "org/one", "one-q4.gguf", "mmproj-f16.gguf", "README.md")
    assert find_gguf("org/one") == snapshot / "one-q4.gguf"
    snapshot = pulled(
        caches, "org/two", "two-q4.gguf", "q8/two-q8-00001-of-00002.gguf", "q8/two-q8-00002-of-00002.gguf"
    )
    assert find_gguf("org/two:two-q4.gguf") == snapshot / "two-q4.gguf"
    assert find_gguf("org/two:q8/two-q8-00001-of-00002.gguf") == snapshot / "q8/two-q8-00001-of-00002.gguf"
    several = refused(find_gguf, "org/two")
    assert "2 GGUF files in it: q8/two-q8-00001-of-00002.gguf, two-q4.gguf" in several.message
    assert "org/two:q8/two-q8-00001-of-00002.gguf" in str(several.hint)
    assert refused(find_gguf, "org/two:three.gguf").hint == "mlxdistill pull org/two:three.gguf"
    assert refused(find_gguf, "org/two:../../../../secret.gguf").message.startswith("no GGUF file")
    assert refused(find_gguf, "org/absent").hint == "mlxdistill pull org/absent"
    assert "no GGUF file in it" in refused(find_gguf, str(pulled(caches, "org/mlx", "config.json"))).message


def test_the_revision_that_main_names_wins(caches: Path) -> None:
    pulled(caches, "org/one", "old.gguf", revision="aaa", main=False)
    new = pulled(caches, "org/one", "new.gguf", revision="bbb")
    assert find_gguf("org/one") == new / "new.gguf"
    only = pulled(caches, "org/unmarked", "it.gguf", main=False)
    assert find_gguf("org/unmarked") == only / "it.gguf"


def test_model_folders(caches: Path) -> None:
    snapshot = pulled(caches, "org/mlx", "config.json", "model.safetensors")
    assert find_model_folder("org/mlx") == snapshot
    assert find_model_folder(str(snapshot)) == snapshot
    (snapshot / "model.safetensors").unlink()
    missing = refused(find_model_folder, "org/mlx")
    assert "model.safetensors is missing" in missing.message
    assert missing.hint == "mlxdistill pull org/mlx"
    weights = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    (snapshot / "model-00001-of-00002.safetensors").write_bytes(b"x")
    assert "model-00002-of-00002.safetensors is missing" in refused(find_model_folder, "org/mlx").message
    (snapshot / "model-00002-of-00002.safetensors").symlink_to(caches / "nowhere")
    assert "model-00002-of-00002.safetensors is missing" in refused(find_model_folder, "org/mlx").message
    (snapshot / "model.safetensors.index.json").write_text("{")
    assert "unreadable" in refused(find_model_folder, "org/mlx").message
    (snapshot / "config.json").unlink()
    assert "config.json is missing" in refused(find_model_folder, "org/mlx").message


@pytest.mark.parametrize(
    "name", ["", "nonsense", "a/b/c", "teacher.gguf", "ollama:llama3", "org/absent", "https://x.y/z"]
)
def test_what_is_no_model_folder(name: str) -> None:
    refused(find_model_folder, name or "nothing")


def test_what_the_disk_refuses_is_one_line(caches: Path) -> None:
    for find in (find_gguf, find_model_folder, model_fingerprint):
        assert refused(find, "x" * 300 + "/model").message == "cannot be read: file name too long"


@pytest.mark.parametrize(
    ("name", "expected"), [("org/name", True), ("a b/c", False), ("org", False), ("a/b/c", False), ("../b", False)]
)
def test_the_form_of_a_hub_id(name: str, expected: bool) -> None:
    assert is_hub_id(name) is expected


def test_a_file_is_no_model_folder(caches: Path) -> None:
    (caches / "file").write_bytes(b"x")
    assert "a file, not" in refused(find_model_folder, "./file").message


def test_ollama(caches: Path) -> None:
    digest = "0" * 64
    root = caches / "ollama"
    manifest = root / "manifests" / "registry.ollama.ai" / "library" / "llama3" / "latest"
    manifest.parent.mkdir(parents=True)
    layers = [
        {"mediaType": "application/vnd.ollama.image.license", "digest": "sha256:" + "1" * 64},
        {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:" + digest},
    ]
    manifest.write_text(json.dumps({"layers": layers}))
    assert "not complete" in refused(find_gguf, "ollama:llama3").message
    blob = root / "blobs" / f"sha256-{digest}"
    blob.parent.mkdir()
    blob.write_bytes(b"x")
    assert find_gguf("ollama:llama3") == blob
    assert find_gguf("ollama:llama3:latest") == blob
    assert refused(find_gguf, "ollama:llama3:8b").hint == "ollama pull llama3:8b"
    assert "not a model of Ollama's" in refused(find_gguf, "ollama:../x").message
    manifest.write_text(json.dumps({"layers": [{"mediaType": layers[1]["mediaType"], "digest": "sha256:../../x"}]}))
    assert "not complete" in refused(find_gguf, "ollama:llama3").message
    manifest.write_text("[]")
    assert "cannot be read" in refused(find_gguf, "ollama:llama3").message
