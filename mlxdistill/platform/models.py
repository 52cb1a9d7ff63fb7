"""Where a model that was named lies on this disk.

A name is a path, a Hugging Face hub id that was pulled (`org/name`, for a GGUF also `org/name:file.gguf`) a model of
Ollama's (`ollama:name`, `ollama:name:tag`), or one of the demo's (`embedded:teacher`, `embedded:student`). Only the
caches' folders are read, so a look-up can never reach the network.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from mlxdistill.demo import embedded_model
from mlxdistill.errors import ModelError
from mlxdistill.platform.blas import cache_folder

_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_LATER_PART = re.compile(r"-(?!00001)\d{5}-of-\d{5}\.gguf$")
_OLLAMA_MODEL = "application/vnd.ollama.image.model"
_MOST_NAMES_SHOWN = 6
_BIG_FILE_BYTES = 2**30
_MODEL_SUFFIXES = (".safetensors", ".json", ".jinja", ".model", ".txt")


def find_gguf(name: str) -> Path:
    """The GGUF file called `name`; of a split set, the first part. Its content is not looked at.

    Raises ModelError, with the mend, where there is none, where it is not clear which is meant, or where a folder on
    the way is not permitted.
    """
    with _permitted(name):
        return _find_gguf(name)


def _find_gguf(name: str) -> Path:
    embedded = embedded_model(name)
    if embedded is not None:
        return embedded
    if name.startswith("ollama:"):
        return _ollama_blob(name)
    repository, _, file = name.partition(":")
    if _is_path(name) or (name.endswith(".gguf") and not (file and is_hub_id(repository))):
        path = _existing(name)
        return _only_gguf(path, path, name) if path.is_dir() else path
    snapshot = _snapshot(repository)
    if not file:
        return _only_gguf(snapshot, Path(repository), name)
    path = snapshot / file
    if not file.endswith(".gguf") or ".." in Path(file).parts or Path(file).is_absolute() or not path.is_file():
        raise ModelError(f"no GGUF file {file!r} was pulled", where=name, hint=f"mlxdistill pull {name}")
    return path


def find_model_folder(name: str) -> Path:
    """The folder of the MLX model called `name`: it holds `config.json` and whole safetensors.

    Raises ModelError, with the mend, where there is none, where files are missing, or where a folder is not permitted.
    """
    with _permitted(name):
        return _find_model_folder(name)


def _find_model_folder(name: str) -> Path:
    if name.startswith("ollama:") or name.endswith(".gguf"):
        raise ModelError("a GGUF model cannot be trained", where=name, hint="name an MLX model: a folder or a hub id")
    embedded = embedded_model(name)
    if embedded is not None:
        return embedded
    from_hub = not _is_path(name)
    folder = _snapshot(name) if from_hub else _existing(name)
    if not folder.is_dir():
        raise ModelError("a file, not a model's folder", where=name, hint="name the folder that holds config.json")
    hint = f"mlxdistill pull {name}" if from_hub else "name a folder that holds a whole MLX model"
    missing = [file for file in ("config.json", *_weight_files(folder)) if not (folder / file).is_file()]
    if missing[:1] == ["config.json"] and (folder / "adapter_config.json").is_file():
        hint = f"name the model it was trained on, or fuse the two: mlx_lm.fuse --model MODEL --adapter-path {name}"
        raise ModelError("an adapter, not a whole model", where=name, hint=hint)
    if missing:
        raise ModelError(f"the model's {missing[0]} is missing", where=name, hint=hint)
    return folder


def model_fingerprint(name: str) -> str:
    """A hash of everything in an MLX model's folder that its answers depend on.

    Raises ModelError as `find_model_folder` does.
    """
    folder = find_model_folder(name)
    with _permitted(name):
        hashes = {path.name: cached_sha256(path) for path in sorted(folder.iterdir()) if path.suffix in _MODEL_SUFFIXES}
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()[:32]


def cached_sha256(path: Path, note: Callable[[str], None] | None = None) -> str:
    """sha256 of a file, remembered by its path, size and times: models take a minute to read.

    The time of the inode's change counts too, because tools that unpack or copy set the other one to what they like.
    `note` is told before a large file is read.
    """
    memory = cache_folder() / "sha256.json"
    status = path.stat()
    key = f"{path.resolve()}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"
    known: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError):
        loaded = json.loads(memory.read_text("utf-8"))
        known = loaded if isinstance(loaded, dict) else {}
    if key not in known:
        if note is not None and status.st_size > _BIG_FILE_BYTES:
            note(f"reading {path.name} once for its sha256")
        with path.open("rb") as file:
            known[key] = hashlib.file_digest(file, "sha256").hexdigest()
        with contextlib.suppress(OSError):
            _remember(memory, known)
    return known[key]


def _remember(memory: Path, known: dict[str, str]) -> None:
    memory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = memory.with_name(f".{memory.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(known), "utf-8")
    os.replace(temporary, memory)


def hub_folder() -> Path:
    """Where the hub's own tools keep what was pulled (`HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`)."""
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.environ.get("HF_HOME") or base).expanduser() / "hub"


def is_hub_id(name: str) -> bool:
    """Whether the name has the form of a repository of the hub, `org/name`."""
    return _HUB_ID.fullmatch(name) is not None


@contextlib.contextmanager
def _permitted(name: str) -> Iterator[None]:
    """Turns the disk's refusals into a ModelError about the model called `name`."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ModelError(f"cannot be read: {reason}", where=name, hint="check the path and its permissions") from error


def _is_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or Path(name).exists()


def _existing(name: str) -> Path:
    try:
        path = Path(name).expanduser()
        if path.exists():
            return path
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"not a usable path ({error})", where=name, hint="check `model`") from error
    raise ModelError("no such model", where=name, hint="check the path, or name a hub id that was pulled")


def _snapshot(name: str) -> Path:
    """The folder of a pulled repository's revision: the one `main` points to, else the newest."""
    if not is_hub_id(name):
        hint = "name a path, a hub id (org/name) that was pulled, or ollama:name"
        raise ModelError("no such model", where=name, hint=hint)
    repository = hub_folder() / ("models--" + name.replace("/", "--"))
    main = repository / "refs" / "main"
    if main.is_file():
        revision = main.read_text("utf-8", "replace").strip()
        if re.fullmatch(r"[0-9a-zA-Z]+", revision) and (repository / "snapshots" / revision).is_dir():
            return repository / "snapshots" / revision
    others = [path for path in repository.glob("snapshots/*") if path.is_dir()]
    if not others:
        raise ModelError("this model was not pulled", where=name, hint=f"mlxdistill pull {name}")
    return max(others, key=lambda path: path.stat().st_mtime)


def _only_gguf(folder: Path, shown: Path, name: str) -> Path:
    """The folder's one model. Image projectors and later parts of split sets are no models of their own."""
    files = sorted(
        path
        for path in folder.rglob("*.gguf")
        if path.is_file() and not path.name.startswith("mmproj") and not _LATER_PART.search(path.name)
    )
    if len(files) == 1:
        return files[0]
    if not files:
        raise ModelError("no GGUF file in it", where=name, hint="name a GGUF file, or a hub id whose files are GGUF")
    names = ", ".join(str(path.relative_to(folder)) for path in files[:_MOST_NAMES_SHOWN])
    more = ", ..." if len(files) > _MOST_NAMES_SHOWN else ""
    separator = ":" if shown != folder else "/"
    hint = f"name one, such as {shown}{separator}{files[0].relative_to(folder)}"
    raise ModelError(f"{len(files)} GGUF files in it: {names}{more}", where=name, hint=hint)


def _weight_files(folder: Path) -> list[str]:
    """The safetensors the folder must hold: those its index names, else any one."""
    try:
        index = json.loads((folder / "model.safetensors.index.json").read_text("utf-8"))
        named = sorted({str(file) for file in index["weight_map"].values()})
    except FileNotFoundError:
        named = [path.name for path in folder.glob("*.safetensors")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        named = ["model.safetensors.index.json (unreadable)"]
    return named or ["model.safetensors"]


def _ollama_blob(name: str) -> Path:
    """The blob behind an Ollama model, by its manifest (https://github.com/ollama/ollama, `manifest`)."""
    model, _, tag = name.removeprefix("ollama:").partition(":")
    parts = model.split("/") if "/" in model else ["library", model]
    root = Path(os.environ.get("OLLAMA_MODELS") or "~/.ollama/models").expanduser()
    hint = f"ollama pull {model}{':' + tag if tag else ''}"
    if len(parts) != 2 or not all(re.fullmatch(r"[A-Za-z0-9][\w.-]*", part) for part in [*parts, tag or "latest"]):
        raise ModelError("not a model of Ollama's", where=name, hint="write ollama:name or ollama:name:tag")
    manifest = root / "manifests" / "registry.ollama.ai" / parts[0] / parts[1] / (tag or "latest")
    try:
        layers = json.loads(manifest.read_text("utf-8"))["layers"]
        digest = next(layer["digest"] for layer in layers if layer["mediaType"] == _OLLAMA_MODEL)
    except FileNotFoundError as error:
        raise ModelError("Ollama does not have this model", where=name, hint=hint) from error
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise ModelError(f"Ollama's manifest {manifest} cannot be read", where=name, hint=hint) from error
    blob = root / "blobs" / str(digest).replace(":", "-")
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", str(digest)) or not blob.is_file():
        raise ModelError("Ollama's copy of this model is not complete", where=name, hint=hint)
    return blob
