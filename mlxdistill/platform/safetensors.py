"""The header of a safetensors file, read before MLX sees the file.

A download that broke off leaves a file whose name and beginning look right. Every tensor that the header names must lie
inside the file, so that such a file is named before anything is trained; nothing is allocated by a number that the
file alone vouches for.

Format: https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any, TypeGuard

from mlxdistill.errors import ModelError

MOST_HEADER_BYTES = 100_000_000  # as in the format's own reader
MOST_DIMENSIONS = 16
_BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2, "U32": 4, "I32": 4, "F32": 4}
_BYTES |= {"U64": 8, "I64": 8, "F64": 8, "C64": 8}
_PREFIX_BYTES = 8
_HINT = "get the model again, or use another"


def check_safetensors(path: Path, name: str) -> None:
    """Finds the file whole: a header that is what it should be, and all of each tensor it names.

    Args:
        name: the model, for messages.

    Raises ModelError, with the mend.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            prefix = file.read(_PREFIX_BYTES)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == _PREFIX_BYTES else 0
            whole = _PREFIX_BYTES + length <= size
            header = file.read(length) if whole and length <= MOST_HEADER_BYTES else b""
    except OSError as error:
        message = f"the model's {path.name} cannot be read: {(error.strerror or str(error)).lower()}"
        raise ModelError(message, where=name, hint="check its permissions") from error
    # Far too long a header is text where a length should stand, such as Git LFS leaves in place of the file.
    if length > MOST_HEADER_BYTES or (size and not length):
        raise ModelError(f"the model's {path.name} is not a safetensors file", where=name, hint=_HINT)
    if not size or not whole:
        raise _cut(path, name, size, _PREFIX_BYTES + length)
    needed = _PREFIX_BYTES + length + _end_of_data(_parsed(header), path, name)
    if size < needed:
        raise _cut(path, name, size, needed)


def _parsed(header: bytes) -> Any:
    try:
        return json.loads(header)
    except (ValueError, RecursionError):
        return None


def _end_of_data(header: Any, path: Path, name: str) -> int:
    """The bytes that the header's tensors take after it."""
    if not isinstance(header, dict):
        message = f"the model's {path.name} is damaged: its header is no JSON object"
        raise ModelError(message, where=name, hint=_HINT)
    end = 0
    for tensor, entry in header.items():
        if tensor == "__metadata__":
            continue
        last = _last_byte(entry)
        if last is None:
            message = f"the model's {path.name} is damaged: tensor {tensor!r:.80} has an impossible shape or place"
            raise ModelError(message, where=name, hint=_HINT)
        end = max(end, last)
    return end


def _last_byte(entry: Any) -> int | None:
    """Where a tensor ends after the header, or None where its entry does not fit together."""
    if not isinstance(entry, dict):
        return None
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    if not _are_counts(shape) or not _are_counts(offsets) or len(shape) > MOST_DIMENSIONS or len(offsets) != 2:
        return None
    start, end = offsets
    item = _BYTES.get(str(entry.get("dtype")))  # MLX knows whether it reads a type that is not listed here
    fits = start <= end and (item is None or end - start == item * math.prod(shape))
    return end if fits else None


def _are_counts(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _cut(path: Path, name: str, size: int, needed: int) -> ModelError:
    message = f"the model's {path.name} is cut short: {size} bytes of at least {max(needed, _PREFIX_BYTES)}"
    return ModelError(message, where=name, hint=_HINT)
