"""A safetensors file that is not whole is named before MLX is given it."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdistill.errors import ModelError
from mlxdistill.platform.safetensors import check_safetensors

TENSOR = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


def stored(header: Any, data: bytes = b"\0" * 24, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def checked(folder: Path, content: bytes) -> str | None:
    path = folder / "model.safetensors"
    path.write_bytes(content)
    try:
        check_safetensors(path, "org/name")
    except ModelError as error:
        refusal = error
    else:
        return None
    assert refusal.where == "org/name"
    assert refusal.hint
    assert "\n" not in refusal.message
    return refusal.message


def test_whole_files(tmp_path: Path) -> None:
    assert checked(tmp_path, stored({"__metadata__": {"format": "mlx"}, "w": TENSOR})) is None
    assert checked(tmp_path, stored({})) is None
    scalar = {"dtype": "F8_NEW", "shape": [], "data_offsets": [24, 25]}
    assert checked(tmp_path, stored({"w": TENSOR, "x": scalar}, b"\0" * 25)) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is cut short: 0 bytes of at least 8"),
        (stored({"w": TENSOR})[:-1], "is cut short: 96 bytes of at least 97"),
        (stored({"w": TENSOR})[:40], "is cut short: 40 bytes of at least 73"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is not a safetensors file"),
        (b"\0" * 100, "is not a safetensors file"),
        (stored(b"{", b""), "its header is no JSON object"),
        (stored(b"[" * 10**5, b""), "its header is no JSON object"),
        (stored([]), "its header is no JSON object"),
        (stored({"w": 3}), "tensor 'w' has an impossible shape or place"),
        (stored({"w": TENSOR | {"shape": [2, 4]}}), "tensor 'w' has an impossible shape or place"),
        (stored({"w": TENSOR | {"shape": [2**62] * 17}}), "tensor 'w' has an impossible shape or place"),
        (stored({"w": TENSOR | {"shape": [-2, -3]}}), "tensor 'w' has an impossible shape or place"),
        (stored({"w": TENSOR | {"shape": [2, 3.0]}}), "tensor 'w' has an impossible shape or place"),
        (stored({"w": TENSOR | {"data_offsets": [24, 0]}}), "tensor 'w' has an impossible shape or place"),
        (stored({"w": TENSOR | {"data_offsets": [0]}}), "tensor 'w' has an impossible shape or place"),
    ],
)
def test_files_that_are_not_whole(tmp_path: Path, content: bytes, message: str) -> None:
    assert message in (checked(tmp_path, content) or "")


@given(st.integers(0, 96))
def test_a_file_cut_anywhere_is_refused(tmp_path_factory: pytest.TempPathFactory, size: int) -> None:
    assert checked(tmp_path_factory.mktemp("cut"), stored({"w": TENSOR})[:size])


@given(st.binary(max_size=200))
def test_no_bytes_are_a_traceback(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    checked(tmp_path_factory.mktemp("any"), content)
    checked(tmp_path_factory.mktemp("any"), stored(content))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read: no such file"):
        check_safetensors(tmp_path / "model.safetensors", "org/name")
