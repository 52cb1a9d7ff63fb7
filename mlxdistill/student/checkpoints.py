"""Where a training goes on after a stop.

A checkpoint is a folder that is renamed into place when it is whole, with the sha256 of each of its files, because a
flipped byte in a safetensors file loads without a word. The two newest are kept: where one is damaged, the one before
serves.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxdistill.rundir.files import atomic_file, make_folder, os_errors, sync_folder, write_json
from mlxdistill.student.adapter import tensor_bytes

KEPT = 2
_MANIFEST = "manifest.json"
_STATE = "state.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything a training is made of besides its request.

    Attributes:
        step: optimizer steps done.
        state: cursor, best so far, patience, history, running sums; JSON values.
        tensors: named sets of arrays: `adapter`, `optimizer`, `best`.
    """

    step: int
    state: dict[str, Any]
    tensors: Mapping[str, Mapping[str, Any]]


class Checkpoints:
    """The checkpoints of one training.

    Args:
        fingerprint: changes whenever a checkpoint of another request must not be gone on from.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder = folder
        self._fingerprint = fingerprint

    def save(self, checkpoint: Checkpoint) -> None:
        """Raises MlxDistillError where the disk refuses; the checkpoints before stay."""
        make_folder(self._folder)
        final = self._folder / f"{checkpoint.step:08d}"
        made = self._folder / f".{final.name}.{secrets.token_hex(4)}.tmp"
        old = self._folder / f".{final.name}.{secrets.token_hex(4)}.old"
        state = {"fingerprint": self._fingerprint, "step": checkpoint.step, "state": checkpoint.state}
        contents = {_STATE: json.dumps(state, allow_nan=False).encode()}
        contents |= {f"{name}.safetensors": tensor_bytes(arrays) for name, arrays in checkpoint.tensors.items()}
        try:
            for name, content in contents.items():
                with atomic_file(made / name) as file:
                    file.write(content)
            write_json(
                made / _MANIFEST, {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
            )
            with os_errors(final):
                if final.exists():
                    os.replace(final, old)
                os.replace(made, final)
                sync_folder(self._folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
        for outdated in self._newest_first()[KEPT:]:
            shutil.rmtree(outdated, ignore_errors=True)

    def load(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest whole checkpoint of this request, or None, and a note for each that was passed over."""
        notes = []
        for folder in self._newest_first():
            contents = _whole_contents(folder)
            if contents is None:
                notes.append(f"checkpoint {folder.name} is damaged; going on from the one before")
                continue
            saved = json.loads(contents[_STATE])
            if saved["fingerprint"] != self._fingerprint:
                notes.append("the checkpoints belong to other settings or rows; training starts anew")
                self.clear()
                return None, notes
            tensors = {
                name.removesuffix(".safetensors"): _arrays(content)
                for name, content in contents.items()
                if name.endswith(".safetensors")
            }
            return Checkpoint(saved["step"], saved["state"], tensors), notes
        return None, notes

    def clear(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _newest_first(self) -> list[Path]:
        return sorted((path for path in self._folder.glob("[0-9]*") if path.is_dir()), reverse=True)


def _whole_contents(folder: Path) -> dict[str, bytes] | None:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text("utf-8"))
        contents = {name: (folder / name).read_bytes() for name in manifest}
    except (OSError, ValueError, TypeError):
        return None
    whole = all(hashlib.sha256(contents[name]).hexdigest() == digest for name, digest in manifest.items())
    return contents if whole and _STATE in contents else None


def _arrays(content: bytes) -> dict[str, Any]:
    import mlx.core as mx
    from safetensors.numpy import load

    return {name: mx.array(value) for name, value in load(content).items()}
