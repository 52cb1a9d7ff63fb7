"""The header of a GGUF file, read before llama.cpp sees the file.

Model files come from strangers, and loaders written in C have trusted their counts and offsets more than once. Here
every count has a cap, every read stays inside the file, and every tensor must lie inside it too, so that a file cut
short by a broken download is named as such. Nothing is allocated by a number that the file alone vouches for.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import re
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from mlxdistill.errors import ModelError

MOST_HEADER_BYTES = 128 * 2**20  # the largest vocabularies, with merges, take some 40 MiB
MOST_TENSORS = 65_536
MOST_METADATA = 4_096
MOST_KEY_BYTES = 65_535
MOST_STRING_BYTES = 16 * 2**20
MOST_ARRAY_ITEMS = 4 * 2**20
MOST_PARTS = 999

# Items in a block and bytes of a block, by ggml's number of the tensor type (ggml_blck_size, ggml_type_size).
# fmt: off
BLOCKS: Mapping[int, tuple[int, int]] = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66), 17: (256, 74),
    18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2),
    26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
    40: (64, 36), 41: (128, 18), 42: (64, 18),
}
# fmt: on

_STRING, _ARRAY = 8, 9
_BLOCK, _EXPERT = "block", "expert"
# fmt: off
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
# fmt: on
_TOKENS = "tokenizer.ggml.tokens"
_PER_TOKEN = ("tokenizer.ggml.scores", "tokenizer.ggml.token_type")
_PART = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_AGAIN = "get the file again"


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What a model's time and memory follow from; 0 where the file does not say.

    Attributes:
        layers, width, heads, kv_heads, head_width, feed_forward: of the transformer; where layers differ and the file
            lists them one by one, `kv_heads` is `heads` and `feed_forward` four times the width.
        block_weights: that every token is multiplied with, of experts those in use.
        head_weights: that are multiplied where logits are wanted.
    """

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    feed_forward: int
    block_weights: int
    head_weights: int


@dataclass(frozen=True, slots=True)
class GgufInfo:
    """What a GGUF file says about itself.

    Attributes:
        files: the file, or every part of a split set, in order.
        architecture: llama.cpp's name for the kind of model.
        name: the model's own name, or None.
        context_length: tokens it was trained for, or None.
        vocabulary_size: tokens it knows.
        chat_template: Jinja source, or None.
        bos_token, eos_token: their text, or None.
        file_bytes: of all parts together.
        shape: what its cost follows from.
    """

    files: tuple[Path, ...]
    architecture: str
    name: str | None
    context_length: int | None
    vocabulary_size: int
    chat_template: str | None
    bos_token: str | None
    eos_token: str | None
    file_bytes: int
    shape: ModelShape


def inspect_gguf(path: Path) -> GgufInfo:
    """Checks the header of a GGUF model, and of all parts where it is the first of a split set.

    Raises ModelError for anything that is not a whole model which llama.cpp may be given.
    """
    header = _read_header(path)
    files = _parts(path, header)
    headers = [header]
    for number, part in enumerate(files[1:], start=1):
        headers.append(_check_part(part, number, len(files)))
    kind = header.text("general.type")
    if kind not in (None, "model"):
        raise ModelError(
            f"of kind {kind!r:.40}, not a model", where=str(path), hint="name the file of the model itself"
        )
    architecture = header.text("general.architecture")
    if not architecture:
        _damaged(path, "does not name its architecture")
    if not header.tokens:
        raise ModelError("holds no vocabulary", where=str(path), hint="name the file of a language model")
    info = GgufInfo(
        files=files,
        architecture=architecture,
        name=header.text("general.name"),
        context_length=header.whole_number(f"{architecture}.context_length"),
        vocabulary_size=len(header.tokens),
        chat_template=header.text("tokenizer.chat_template"),
        bos_token=header.token("tokenizer.ggml.bos_token_id"),
        eos_token=header.token("tokenizer.ggml.eos_token_id"),
        file_bytes=sum(part.stat().st_size for part in files),
        shape=_shape(header, architecture, headers),
    )
    if not any(each.tensors for each in headers):
        raise ModelError("holds no weights", where=str(path), hint="name the file of the model itself")
    return info


def _shape(header: _Header, architecture: str, headers: Sequence[_Header]) -> ModelShape:
    def number(key: str, otherwise: int) -> int:
        return header.whole_number(f"{architecture}.{key}") or otherwise

    width, heads = number("embedding_length", 0), number("attention.head_count", 1)
    experts = number("expert_count", 1)
    block, expert = (sum(each.weights[kind] for each in headers) for kind in (_BLOCK, _EXPERT))
    return ModelShape(
        layers=number("block_count", 0),
        width=width,
        heads=heads,
        kv_heads=number("attention.head_count_kv", heads),
        head_width=number("attention.key_length", width // heads),
        feed_forward=number("feed_forward_length", 4 * width),
        block_weights=block + expert * min(experts, number("expert_used_count", experts)) // experts,
        head_weights=width * len(header.tokens),
    )


@dataclass(frozen=True, slots=True)
class _Header:
    path: Path
    values: Mapping[str, Any]
    tokens: list[bytes]
    weights: Counter[str]  # matrices of the blocks, by what they are
    tensors: int

    def text(self, key: str) -> str | None:
        value = self.values.get(key)
        if value is not None and not isinstance(value, str):
            _damaged(self.path, f"{key} is not text")
        return value

    def whole_number(self, key: str) -> int | None:
        value = self.values.get(key)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            _damaged(self.path, f"{key} is not a whole number")
        return value

    def token(self, key: str) -> str | None:
        number = self.whole_number(key)
        if number is None or number == 0xFFFFFFFF:  # -1 as llama.cpp writes "none"
            return None
        if number >= len(self.tokens):
            _damaged(self.path, f"{key} is not in the vocabulary")
        return self.tokens[number].decode("utf-8", "replace")


def _damaged(path: Path, what: str) -> NoReturn:
    raise ModelError(f"a damaged GGUF file: {what}", where=str(path), hint=_AGAIN)


class _Reader:
    """Reads that never leave the file."""

    def __init__(self, path: Path, file: IO[bytes], size: int) -> None:
        self.path = path
        self.left = size
        self._file = file
        self._size = size

    @property
    def position(self) -> int:
        return self._size - self.left

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise ModelError("the file is cut short within its header", where=str(self.path), hint=_AGAIN)
        if self.position + count > MOST_HEADER_BYTES:
            _damaged(self.path, f"a header of more than {MOST_HEADER_BYTES} bytes")
        data = self._file.read(count)
        if len(data) != count:
            raise ModelError("the file shrank while it was read", where=str(self.path), hint=_AGAIN)
        self.left -= count
        return data

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def string(self, most: int = MOST_STRING_BYTES) -> bytes:
        length = self.number("<Q")
        if length > most:
            _damaged(self.path, f"a string of {length} bytes")
        return self.take(length)

    def items(self) -> tuple[int, int]:
        """An array's item type and length, the length capped."""
        kind, length = self.number("<I"), self.number("<Q")
        if kind not in _SCALARS and kind != _STRING:
            _damaged(self.path, f"an array of type {kind}")
        if length > MOST_ARRAY_ITEMS:
            _damaged(self.path, f"an array of {length} items")
        return kind, length


def _read_header(path: Path) -> _Header:
    try:
        if path.is_dir():
            raise ModelError("a folder, not a GGUF file", where=str(path), hint="name the .gguf file in it")
        size = path.stat().st_size
        with path.open("rb", buffering=2**20) as file:
            return _parse(_Reader(path, file, size))
    except FileNotFoundError as error:
        raise ModelError("no such file", where=str(path), hint="check the path") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ModelError(f"cannot be read: {reason}", where=str(path), hint="check the file") from error


def _parse(reader: _Reader) -> _Header:
    path = reader.path
    if reader.left < 4 or reader.take(4) != b"GGUF":
        raise ModelError("not a GGUF file", where=str(path), hint="name a .gguf file; MLX folders are for the student")
    version = reader.number("<I")
    if version in (2 << 24, 3 << 24):
        raise ModelError("a big-endian GGUF file", where=str(path), hint="get the little-endian one")
    if version not in (2, 3):
        raise ModelError(
            f"GGUF version {version}; 2 and 3 are read", where=str(path), hint="get a newer file of this model"
        )
    tensors, metadata = reader.number("<Q"), reader.number("<Q")
    if tensors > MOST_TENSORS or metadata > MOST_METADATA:
        _damaged(path, f"{tensors} tensors and {metadata} metadata entries")
    header = _read_metadata(reader, metadata, tensors)
    _check_tensors(reader, tensors, header)
    return header


def _read_metadata(reader: _Reader, count: int, tensors: int) -> _Header:
    values: dict[str, Any] = {}
    tokens: list[bytes] = []
    lengths: dict[str, int] = {}
    for _ in range(count):
        key = reader.string(MOST_KEY_BYTES).decode("utf-8", "replace")
        if key in values:
            _damaged(reader.path, f"{key!r:.80} is given twice")
        kind = reader.number("<I")
        values[key] = None
        if kind == _ARRAY:
            item, length = reader.items()
            lengths[key] = length
            if key == _TOKENS and item != _STRING:
                _damaged(reader.path, "its vocabulary is not text")
            if item == _STRING:
                strings = tokens if key == _TOKENS else None
                _walk_strings(reader, length, strings)
            else:
                reader.take(length * struct.calcsize(_SCALARS[item]))
        elif kind == _STRING:
            values[key] = reader.string().decode("utf-8", "replace")
        elif kind in _SCALARS:
            values[key] = reader.number(_SCALARS[kind])
        else:
            _damaged(reader.path, f"{key!r:.80} is of type {kind}")
    for key in _PER_TOKEN:
        if lengths.get(key, len(tokens)) != len(tokens):
            _damaged(reader.path, f"{key} does not have one item for each token")
    return _Header(reader.path, values, tokens, Counter(), tensors)


def _walk_strings(reader: _Reader, length: int, keep: list[bytes] | None) -> None:
    if length * 8 > reader.left:
        reader.take(length * 8)
    for _ in range(length):
        string = reader.string()
        if keep is not None:
            keep.append(string)


def _check_tensors(reader: _Reader, count: int, header: _Header) -> None:
    alignment = header.values.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 8 or alignment > 2**20 or alignment & (alignment - 1):
        _damaged(reader.path, "its alignment is not a power of two")
    end = 0
    for _ in range(count):
        name = reader.string(MOST_KEY_BYTES).decode("utf-8", "replace")
        dimensions = reader.number("<I")
        if not 1 <= dimensions <= 4:
            _damaged(reader.path, f"tensor {name!r:.80} has {dimensions} dimensions")
        shape = [reader.number("<Q") for _ in range(dimensions)]
        kind, offset = reader.number("<I"), reader.number("<Q")
        if kind not in BLOCKS:
            hint = "get this model in another quantization"
            raise ModelError(f"tensor {name!r:.80} is of unknown type {kind}", where=str(reader.path), hint=hint)
        if dimensions > 1 and name.startswith("blk."):
            header.weights[_EXPERT if "_exps." in name else _BLOCK] += math.prod(shape)
        items, size = BLOCKS[kind]
        if 0 in shape or shape[0] % items or offset % alignment:
            _damaged(reader.path, f"tensor {name!r:.80} has an impossible shape or place")
        for dimension in shape[1:]:
            size *= dimension
        end = max(end, offset + size * (shape[0] // items))
    start = -(-reader.position // alignment) * alignment
    whole = start + end
    have = reader.position + reader.left
    if count and whole > have:
        raise ModelError(
            f"the file is cut short: {have} bytes of at least {whole}", where=str(reader.path), hint=_AGAIN
        )


def _parts(path: Path, header: _Header) -> tuple[Path, ...]:
    count = header.whole_number("split.count") or 1
    if count == 1:
        return (path,)
    if count > MOST_PARTS:
        _damaged(path, f"a set of {count} parts")
    match = _PART.fullmatch(path.name)
    if match is None or int(match["count"]) != count:
        hint = f"name it as it was, ...-00001-of-{count:05d}.gguf"
        raise ModelError(f"one of {count} parts, under another name", where=str(path), hint=hint)
    names = [f"{match['stem']}-{number:05d}-of-{count:05d}.gguf" for number in range(1, count + 1)]
    if path.name != names[0]:
        raise ModelError(f"a later part of {count}", where=str(path), hint=f"name the first part, {names[0]}")
    return tuple(path.with_name(name) for name in names)


def _check_part(path: Path, number: int, count: int) -> _Header:
    if not path.is_file():
        raise ModelError(f"part {number + 1} of {count} is missing", where=str(path), hint="get all parts of the set")
    header = _read_header(path)
    if header.whole_number("split.no") != number or header.whole_number("split.count") != count:
        _damaged(path, f"not part {number + 1} of {count}")
    return header
