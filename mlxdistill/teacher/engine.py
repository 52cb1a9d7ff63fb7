"""llama.cpp, as much of it as scoring needs. Lives in the teacher's child process only.

The bindings' high-level `Llama` holds one sequence and copies the vocabulary's logits for every token. This engine
decodes waves: many rows in one call, each row branching off a prefix decoded once, and a row's labels branching off
the row. A token belongs to every branch that passes through it, so a whole tree of labels is decoded with its row.

Logits are read where llama.cpp left them.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlxdistill.errors import ModelError
from mlxdistill.teacher.gguf import inspect_gguf

NO_SLOT = 1  # llama_decode: no room for the batch among the cells; the memory is as it was before
MOST_COMPLAINT_CHARACTERS = 300
_LOG_ERROR = 4  # ggml_log_level in ggml.h, whose numbers changed once; the bindings name none of them
_WHO_SAYS = re.compile(r"^\w+: ")  # llama.cpp begins a line with the name of its function

_complaints: list[str] = []


@functools.cache
def _keep_first_complaint() -> object:
    """Turns llama.cpp's log into `_complaints`. Cached, because llama.cpp calls back until the process ends.

    The first error is the reason; those after it only say which of its callers gave up.
    """
    import llama_cpp

    def keep(level: int, text: bytes, _: object) -> None:
        if level == _LOG_ERROR and not _complaints and text.strip():
            line = " ".join(text[: 4 * MOST_COMPLAINT_CHARACTERS].decode("utf-8", "replace").split())
            _complaints.append(_WHO_SAYS.sub("", line)[:MOST_COMPLAINT_CHARACTERS])

    callback = llama_cpp.llama_log_callback(keep)
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    return callback


class NoSlot(Exception):
    """The context has no cells left for these tokens."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How the model is run.

    Attributes:
        n_ctx: cells of the key-value memory, shared by all sequences.
        n_batch: most tokens of one llama_decode.
        n_seq: sequences, the prefix's included.
        n_outputs: most logits asked of one llama_decode; sizes llama.cpp's buffers.
        threads: of the CPU; `Engine.use_threads` changes it.
        unified: one memory for all sequences; otherwise each has n_ctx / n_seq cells of its own, and a token belongs to
            one sequence.
        skips_masked: on a processor, attention that passes over the cells of other sequences, which pays where a call
            has a token or two of each of many; but it adds up in float16: log probabilities move by 1e-3 to 5e-2.
    """

    n_ctx: int
    n_batch: int
    n_seq: int
    n_outputs: int
    threads: int
    unified: bool = True
    skips_masked: bool = False


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a batch: where it stands in which sequences, and whether logits after it are wanted."""

    token: int
    position: int
    sequences: tuple[int, ...]
    wanted: bool = False


class Model:
    """A GGUF model's weights and vocabulary. A context manager.

    Args:
        weights: load them; without, only the vocabulary can be asked.

    Raises ModelError where the file is not whole or llama.cpp does not load it.
    """

    def __init__(self, path: Path, *, weights: bool = True) -> None:
        import llama_cpp

        self.path = path
        self.info = inspect_gguf(path)
        self._llama = llama_cpp
        _keep_first_complaint()
        llama_cpp.llama_backend_init()
        _complaints.clear()
        parameters = llama_cpp.llama_model_default_params()
        parameters.vocab_only = not weights
        self.pointer = llama_cpp.llama_model_load_from_file(os.fsencode(path), parameters)
        if not self.pointer:
            raise self.error("llama.cpp does not load this model", "use another model, or get this one again")
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.pointer)
        self.vocabulary_size: int = llama_cpp.llama_vocab_n_tokens(self.vocabulary)
        if llama_cpp.llama_model_has_encoder(self.pointer) or not llama_cpp.llama_model_has_decoder(self.pointer):
            self.close()
            raise ModelError("not a model that goes on with text", where=str(path), hint="use a chat model")

        self.is_recurrent = bool(
            llama_cpp.llama_model_is_recurrent(self.pointer) or llama_cpp.llama_model_is_hybrid(self.pointer)
        )
        first = self.tokenise("a", control=False)[:1]
        self.adds_space = bool(first) and self.piece(first[0]).startswith(b" ")

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self.pointer:
            self._llama.llama_model_free(self.pointer)
            self.pointer = None

    def error(self, message: str, hint: str) -> ModelError:
        """A ModelError with the first thing that llama.cpp complained of in the call that failed."""
        said = f" ({_complaints[0]})" if _complaints else ""
        return ModelError(message + said, where=str(self.path), hint=hint)

    @property
    def on_gpu(self) -> bool:
        """Whether the model is computed by a graphics processor."""
        return bool(self._llama.llama_supports_gpu_offload())

    @property
    def cell_bytes(self) -> int:
        """Memory of one cell of the key-value memory, in float16."""
        shape = self.info.shape
        return 2 * 2 * shape.layers * shape.kv_heads * shape.head_width

    @property
    def bos(self) -> int | None:
        """The token that begins a text, where the model's own settings say that one does."""
        token = int(self._llama.llama_vocab_bos(self.vocabulary))
        return token if token >= 0 and self._llama.llama_vocab_get_add_bos(self.vocabulary) else None

    @property
    def end_of_turn(self) -> int | None:
        """The token that ends an answer."""
        for find in (self._llama.llama_vocab_eot, self._llama.llama_vocab_eos):
            if (token := int(find(self.vocabulary))) >= 0:
                return token
        return None

    def is_control(self, token: int) -> bool:
        """Whether the token means something besides its text: control tokens, and any that ends generation."""
        return bool(
            self._llama.llama_vocab_is_control(self.vocabulary, token)
            or self._llama.llama_vocab_is_eog(self.vocabulary, token)
        )

    def tokenise(self, text: str, *, control: bool) -> list[int]:
        """Tokens of the text as it stands, nothing added. `control`: texts of control tokens become those tokens."""
        data = text.encode("utf-8", "replace")
        room = len(data) + 16
        while True:
            tokens = (ctypes.c_int32 * room)()
            count = self._llama.llama_tokenize(self.vocabulary, data, len(data), tokens, room, False, control)
            if count >= 0:
                return list(tokens[:count])
            room = -count

    def piece(self, token: int) -> bytes:
        """The bytes of a token, those of a control token included."""
        room = 256
        while True:
            buffer = ctypes.create_string_buffer(room)
            count = self._llama.llama_token_to_piece(self.vocabulary, token, buffer, room, 0, True)
            if count >= 0:
                return buffer.raw[:count]
            room = -count


class Engine:
    """A model with its key-value memory. A context manager; the model stays open."""

    def __init__(self, model: Model, settings: EngineSettings) -> None:
        import llama_cpp

        self.model = model
        self.settings = settings
        self.threads = settings.threads
        self._llama = llama_cpp
        self.decodes = 0
        self.tokens = 0
        self.seconds = 0.0  # of llama.cpp's own work
        _complaints.clear()
        self._context = llama_cpp.llama_init_from_model(model.pointer, _parameters(settings))
        if not self._context:
            raise model.error(
                f"no memory for a context of {settings.n_ctx} tokens", "lower teacher.n_ctx or teacher.n_batch"
            )
        self._memory = llama_cpp.llama_get_memory(self._context)

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._context:
            self._llama.llama_free(self._context)
            self._context = None

    def use_threads(self, count: int) -> None:
        """Decodes with so many threads of the CPU from here on. The logits stay the same, to the bit."""
        self._llama.llama_set_n_threads(self._context, count, count)
        self.threads = count

    def branch(self, source: int, target: int) -> None:
        """`target` becomes a copy of `source`, in cells shared with it."""
        self._llama.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def forget(self, sequence: int, start: int = 0) -> None:
        """Empties a sequence from this position on. A recurrent model's is emptied whole or not at all."""
        self._llama.llama_memory_seq_rm(self._memory, sequence, start or -1, -1)

    def decode(self, tokens: Sequence[Token], read: Callable[[int, NDArray[np.float32]], None]) -> None:
        """Decodes the tokens in order, in as many calls as n_batch demands.

        Args:
            read: called for each token that wanted logits, with its index and a view of them (float32, one for each
                token of the vocabulary), valid during the call only.

        Raises NoSlot where the cells do not suffice (tokens of earlier calls then stay), ModelError where decoding
        fails.
        """
        for start in range(0, len(tokens), self.settings.n_batch):
            part = tokens[start : start + self.settings.n_batch]
            self._decode_part(part)
            wanted = [index for index, token in enumerate(part) if token.wanted]
            for index, logits in zip(wanted, self._logits(len(wanted)), strict=True):
                read(start + index, logits)

    def _decode_part(self, tokens: Sequence[Token]) -> None:
        batch = _Batch(tokens)
        _complaints.clear()
        began = time.perf_counter()
        code = self._llama.llama_decode(self._context, batch.structure)
        self._llama.llama_synchronize(self._context)
        self.seconds += time.perf_counter() - began
        if code == NO_SLOT:
            raise NoSlot
        if code != 0:
            hint = "lower teacher.n_batch or teacher.n_ctx, or use another model"
            raise self.model.error(f"llama.cpp failed to decode (code {code})", hint)
        self.decodes += 1
        self.tokens += len(tokens)

    def _logits(self, count: int) -> NDArray[np.float32]:
        """Of the last call's tokens that wanted them, in their order: (count, vocabulary), llama.cpp's own memory."""
        if not count:
            return np.empty((0, self.model.vocabulary_size), np.float32)
        pointer = self._llama.llama_get_logits(self._context)
        if not pointer:
            raise self.model.error("llama.cpp gave no logits", "use another model")
        return np.ctypeslib.as_array(pointer, shape=(count, self.model.vocabulary_size))


class _Batch:
    """A llama_batch over NumPy's memory, which it keeps alive."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        import llama_cpp

        counts = np.array([len(token.sequences) for token in tokens], np.int32)
        sequences = np.array([sequence for token in tokens for sequence in token.sequences], np.int32)
        starts = np.concatenate(([0], np.cumsum(counts[:-1], dtype=np.int64)))
        self._arrays: dict[str, NDArray[Any]] = {
            "token": np.array([token.token for token in tokens], np.int32),
            "pos": np.array([token.position for token in tokens], np.int32),
            "n_seq_id": counts,
            "seq_id": (sequences.ctypes.data + 4 * starts).astype(np.uintp),
            "logits": np.array([token.wanted for token in tokens], np.int8),
        }
        self._sequences = sequences
        self.structure = llama_cpp.llama_batch(n_tokens=len(tokens))
        for name, kind in llama_cpp.llama_batch._fields_:
            if name in self._arrays:
                setattr(self.structure, name, ctypes.cast(self._arrays[name].ctypes.data, kind))


def _parameters(settings: EngineSettings) -> Any:
    import llama_cpp

    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = settings.n_ctx
    parameters.n_batch = settings.n_batch
    parameters.n_ubatch = settings.n_batch
    parameters.n_seq_max = settings.n_seq
    parameters.n_outputs_max = settings.n_outputs
    parameters.n_outputs_max_per_seq = 0  # no limit of its own: a branch wants logits after each of its labels' tokens
    parameters.n_threads = settings.threads
    parameters.n_threads_batch = settings.threads
    parameters.kv_unified = settings.unified
    if not llama_cpp.llama_supports_gpu_offload():
        enabled, disabled = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED, llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.flash_attn_type = enabled if settings.skips_masked else disabled
    parameters.swa_full = True  # a sliding window would have forgotten what a branch goes back to
    return parameters
