"""No file, however made, gets past the header check unless it is a whole model."""

from __future__ import annotations

import ctypes
import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlxdistill.errors import ModelError
from mlxdistill.teacher import gguf as ours
from mlxdistill.teacher.gguf import BLOCKS, inspect_gguf

ON_DISK = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def refused(path: Path) -> ModelError:
    with pytest.raises(ModelError) as raised:
        inspect_gguf(path)
    assert raised.value.where
    assert raised.value.hint
    assert "\n" not in raised.value.message
    return raised.value


def string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def test_a_model_is_described(tiny_gguf: Path) -> None:
    info = inspect_gguf(tiny_gguf)
    assert (info.architecture, info.name, info.context_length) == ("llama", "tiny", 512)
    assert (info.bos_token, info.eos_token) == ("<|endoftext|>", "<|im_end|>")
    assert info.vocabulary_size == 319
    assert info.chat_template is not None
    assert info.chat_template.startswith("{% for message")
    assert info.files == (tiny_gguf,)
    assert info.file_bytes == tiny_gguf.stat().st_size


def test_block_sizes_are_those_of_ggml() -> None:
    import llama_cpp

    folder = Path(next(iter(llama_cpp.__path__))) / "lib"
    library = ctypes.CDLL(str(next(path for path in folder.iterdir() if path.name.startswith("libggml-base."))))
    library.ggml_type_size.restype = ctypes.c_size_t
    library.ggml_blck_size.restype = ctypes.c_int64
    found = {kind: (library.ggml_blck_size(kind), library.ggml_type_size(kind)) for kind in range(max(BLOCKS) + 1)}
    assert {kind: block for kind, block in found.items() if block[0]} == BLOCKS


def test_cut_short_anywhere(tiny_gguf: Path, tmp_path: Path) -> None:
    whole = tiny_gguf.read_bytes()
    path = tmp_path / "cut.gguf"
    with path.open("wb") as file:
        file.write(whole)
        for length in [*range(len(whole) - 1, 9000, -5003), *range(9000, 300, -61), *range(300, -1, -1)]:
            file.truncate(length)
            error = refused(path)
            assert "cut short" in error.message or length < 4
    path.write_bytes(whole[:-1])
    assert re.search(r"cut short: \d+ bytes of at least \d+", refused(path).message)


@settings(max_examples=300, deadline=None, suppress_health_check=ON_DISK)
@given(data=st.data())
def test_changed_bytes_are_refused_or_make_a_model(tiny_gguf: Path, tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(tiny_gguf.read_bytes()[:12_000])
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(whole) - 9))
        value = data.draw(st.one_of(st.binary(min_size=1, max_size=8), st.just(b"\xff" * 8), st.just(b"\0" * 8)))
        whole[place : place + len(value)] = value
    path = tmp_path / "changed.gguf"
    path.write_bytes(whole)
    refused(path)  # cut at 12,000 bytes, no change can make it whole


@settings(max_examples=200, deadline=None, suppress_health_check=ON_DISK)
@given(data=st.binary(max_size=400), counts=st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 40)))
def test_random_bytes_are_refused(tmp_path: Path, data: bytes, counts: tuple[int, int]) -> None:
    path = tmp_path / "random.gguf"
    path.write_bytes(data)
    refused(path)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, *counts) + data)
    refused(path)


def header(metadata: list[bytes], tensors: list[bytes] = [], version: int = 3) -> bytes:  # noqa: B006
    return b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata)) + b"".join([*metadata, *tensors])


def tensor(shape: list[int], kind: int, offset: int) -> bytes:
    return string("t") + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


ARCHITECTURE = string("general.architecture") + struct.pack("<I", 8) + string("llama")
TOKENS = string("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + string("a") + string("b")
EOS_AT_9 = string("tokenizer.ggml.eos_token_id") + struct.pack("<II", 4, 9)
SCORES = string("tokenizer.ggml.scores") + struct.pack("<IIQ", 9, 6, 1) + bytes(4)
HUGE_ARRAY = string("x") + struct.pack("<IIQ", 9, 10, 2**60)
NESTED_ARRAY = string("x") + struct.pack("<IIQ", 9, 9, 1)
ADAPTER = string("general.type") + struct.pack("<I", 8) + string("adapter")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a GGUF file"),
        (b"PK\x03\x04 something else", "not a GGUF file"),
        (header([], version=1), "GGUF version 1"),
        (header([], version=3 << 24), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 1), "tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 2**63), "metadata"),
        (header([struct.pack("<Q", 2**62)]), "a string of"),
        (header([HUGE_ARRAY]), "an array of"),
        (header([NESTED_ARRAY]), "an array of type 9"),
        (header([string("x") + struct.pack("<I", 77)]), "is of type 77"),
        (header([ARCHITECTURE, ARCHITECTURE]), "given twice"),
        (header([TOKENS]), "architecture"),
        (header([ARCHITECTURE]), "no vocabulary"),
        (header([ARCHITECTURE, ADAPTER]), "of kind 'adapter', not a model"),
        (header([ARCHITECTURE, TOKENS, EOS_AT_9]), "not in the vocabulary"),
        (header([ARCHITECTURE, TOKENS, SCORES]), "one item for each token"),
        (header([ARCHITECTURE, TOKENS], [tensor([8], 0, 0)]), "cut short"),
        (header([ARCHITECTURE, TOKENS], [tensor([2**62, 2**62], 0, 0)]), "cut short"),
        (header([ARCHITECTURE, TOKENS], [tensor([8], 0, 2**63)]), "cut short"),
        (header([ARCHITECTURE, TOKENS], [tensor([8], 5, 0)]), "unknown type 5"),
        (header([ARCHITECTURE, TOKENS], [tensor([7], 8, 0)]), "impossible shape"),
        (header([ARCHITECTURE, TOKENS], [tensor([8], 0, 3)]), "impossible shape or place"),
        (header([ARCHITECTURE, TOKENS], [tensor([1] * 5, 0, 0)]), "5 dimensions"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "made.gguf"
    path.write_bytes(content)
    assert message in refused(path).message


def test_a_header_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "MOST_HEADER_BYTES", 1000)
    path = tmp_path / "long.gguf"
    path.write_bytes(header([string("x") + struct.pack("<IIQ", 9, 8, 500) + bytes(4000)]))
    assert "a header of more than" in refused(path).message


def test_missing_files_and_folders(tmp_path: Path) -> None:
    assert refused(tmp_path / "no.gguf").message == "no such file"
    assert "a folder" in refused(tmp_path).message


def test_parts_of_a_split_set(make_gguf: Callable[..., Path], tmp_path: Path) -> None:
    def part(number: int, count: int, *, body: list[bytes], tensors: list[bytes] = []) -> bytes:  # noqa: B006
        place = [
            string(f"split.{key}") + struct.pack("<IH", 2, value) for key, value in (("no", number), ("count", count))
        ]
        made = header([*place, *body], tensors)
        return made + bytes(-len(made) % 32 + 4) if tensors else made

    first, second = tmp_path / "m-00001-of-00002.gguf", tmp_path / "m-00002-of-00002.gguf"
    first.write_bytes(part(0, 2, body=[ARCHITECTURE, TOKENS]))
    missing = refused(first)
    assert "part 2 of 2 is missing" in missing.message
    assert missing.where == str(second)
    second.write_bytes(part(1, 2, body=[]))
    assert refused(first).message == "holds no weights"
    second.write_bytes(part(1, 2, body=[], tensors=[tensor([1], 0, 0)]))
    assert inspect_gguf(first).files == (first, second)
    assert inspect_gguf(first).file_bytes == first.stat().st_size + second.stat().st_size
    assert "name the first part, m-00001-of-00002.gguf" in str(refused(second).hint)
    second.write_bytes(second.read_bytes()[:-1])
    assert "cut short" in refused(first).message
    second.write_bytes(part(0, 2, body=[]))
    assert "not part 2 of 2" in refused(first).message
    renamed = first.rename(tmp_path / "renamed.gguf")
    assert "under another name" in refused(renamed).message
