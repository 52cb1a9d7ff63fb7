"""Where a training goes on after a stop.

A checkpoint is a folder that is renamed into place when it is whole, with the sha256 of each of its files, because a
flipped byte in a safetensors file loads without a word. The two newest are kept: where one is damaged, the one before
serves. A training with other settings sets the checkpoints it finds aside, since a setting may have been changed by
mistake after hours of work: with the old settings they are gone on from again, until another training has finished.
"""

from __future__ import annotations

import glob
import hashlib
import io
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
ASIDE_DIGITS = 16
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

    Attributes:
        fingerprint: changes whenever a checkpoint of another request must not be gone on from.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder = folder
        self.fingerprint = fingerprint

    def save(self, checkpoint: Checkpoint) -> None:
        """Raises MlxDistillError where the disk refuses; the checkpoints before stay."""
        make_folder(self._folder)
        final = self._folder / _name(checkpoint.step)
        made = self._folder / f".{final.name}.{secrets.token_hex(4)}.tmp"
        old = self._folder / f".{final.name}.{secrets.token_hex(4)}.old"
        state = {"fingerprint": self.fingerprint, "step": checkpoint.step, "state": checkpoint.state}
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
        # What is numbered higher was damaged, or this training would not be here.
        earlier = [folder for folder in _newest_first(self._folder) if folder.name <= final.name]
        for outdated in set(_newest_first(self._folder)) - set(earlier[:KEPT]):
            shutil.rmtree(outdated, ignore_errors=True)

    def load(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest whole checkpoint of this request, or None, and a note for each that was passed over."""
        self._sweep()
        notes: list[str] = []
        found = _newest_whole(self._folder, notes)
        if found is not None and self._is_other(found):
            self._set_aside(found)
            found = None
            notes = ["the checkpoints belong to other settings or rows, and are set aside until this training ends"]
        if found is None and not _newest_first(self._folder) and (aside := self._aside(self.fingerprint)).is_dir():
            with os_errors(self._folder):
                shutil.rmtree(self._folder, ignore_errors=True)
                os.replace(aside, self._folder)
            found = _newest_whole(self._folder, notes)
        if found is None:
            return None, [*notes[:-1], f"{notes[-1]}; training starts anew"] if notes else []
        saved = json.loads(found[_STATE])
        tensors = {
            name.removesuffix(".safetensors"): arrays_of(content)
            for name, content in found.items()
            if name.endswith(".safetensors")
        }
        return Checkpoint(saved["step"], saved["state"], tensors), notes

    def drop_others(self) -> None:
        """Removes what was set aside: the training has finished."""
        for aside in self._folder.parent.glob(f"{glob.escape(self._folder.name)}.{'[0-9a-f]' * ASIDE_DIGITS}"):
            shutil.rmtree(aside, ignore_errors=True)

    def _is_other(self, contents: Mapping[str, bytes]) -> bool:
        return bool(json.loads(contents[_STATE])["fingerprint"] != self.fingerprint)

    def _set_aside(self, contents: Mapping[str, bytes]) -> None:
        """Keeps the newest whole checkpoint of another training."""
        state = json.loads(contents[_STATE])
        with os_errors(self._folder):
            shutil.rmtree(self._aside(state["fingerprint"]), ignore_errors=True)
            for folder in _newest_first(self._folder):
                if folder.name != _name(state["step"]):
                    shutil.rmtree(folder, ignore_errors=True)
            os.replace(self._folder, self._aside(state["fingerprint"]))
            sync_folder(self._folder.parent)

    def _aside(self, fingerprint: str) -> Path:
        return self._folder.with_name(f"{self._folder.name}.{fingerprint[:ASIDE_DIGITS]}")

    def _sweep(self) -> None:
        """Removes what a kill in the midst of saving left."""
        for kind in ("tmp", "old"):
            for left in self._folder.glob(f".*.{kind}"):
                shutil.rmtree(left, ignore_errors=True)


def _name(step: int) -> str:
    return f"{step:08d}"


def _newest_first(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("[0-9]*") if path.is_dir()), reverse=True)


def _newest_whole(folder: Path, notes: list[str]) -> dict[str, bytes] | None:
    """The contents of the newest whole checkpoint, and a note for each damaged one that is newer."""
    for checkpoint in _newest_first(folder):
        contents = _whole_contents(checkpoint)
        if contents is not None:
            return contents
        notes.append(f"checkpoint {checkpoint.name} is damaged, and passed over for the one before")
    return None


def _whole_contents(folder: Path) -> dict[str, bytes] | None:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text("utf-8"))
        contents = {name: (folder / name).read_bytes() for name in manifest}
    except (OSError, ValueError, TypeError):
        return None
    whole = all(hashlib.sha256(contents[name]).hexdigest() == digest for name, digest in manifest.items())
    return contents if whole and _STATE in contents else None


def arrays_of(content: bytes) -> dict[str, Any]:
    """The arrays of a safetensors file, by name."""
    import mlx.core as mx

    found: Any = mx.load(io.BytesIO(content), format="safetensors")
    mx.eval(found)
    return dict(found)
