"""What a teacher thought of every token of an answer that it wrote: the likeliest tokens and their log-probabilities.

They teach a student only if both number the same tokens alike. Neither side has the other's tokenizer at hand, so the
teacher's side numbers a few fixed texts and leaves a mark of each result beside what it kept; whoever reads that
numbers the same texts and compares.

NumPy is imported where it is needed: the protocols name this type, and whoever starts a model's process reads them
before its BLAS library is chosen.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Where vocabularies part: scripts, accents, digits, runs of spaces, emoji, JSON, code, addresses, very long words.
PROBES = (
    "The quick brown fox jumps over the lazy dog's back.",
    "Überraschung: naïve café, façade, ß",
    "Быстрая коричневая лиса",
    "你好，世界。机器学习",
    "日本語のテキスト、カタカナ",
    "مرحبا بالعالم",
    "हिन्दी में लिखा",
    "한국어 문장",
    "0123456789 3.14159 1,000,000 2024-01-31 0x1F",
    "two  spaces,   three\tand a tab \n\nand lines\n",
    "🙂👍🏽 👩‍👩‍👧‍👦 🇩🇪",
    '{"rationale": "It\'s \\"quoted\\".", "label": "ok", "n": [1, 2.5, null, true]}',
    "def f(x):\n    return x ** 2  # comment\n",
    "http://Example.com/a_b?c=d&e=%20 <tag attr='x'/> @user #hash",
    "ไทย ελληνικά עברית",
    "unbelievablyyyyy aaaaaaaaaaaaaaaa ANTIDISESTABLISHMENT",
)
LEAST_LOGPROB = -1000.0  # in the place of minus infinity, which JSON cannot say
_HEADER = struct.Struct("<HHHI")  # marks, kept, width, tokens


def tokenizer_marks(tokenise: Callable[[str], Sequence[int]]) -> tuple[str, ...]:
    """Eight hexadecimal digits for each of `PROBES`: the CRC-32 of its tokens as int32, little endian.

    Args:
        tokenise: the tokens of a text that follows other text, control tokens read as text.
    """
    import numpy as np

    return tuple(f"{zlib.crc32(np.asarray(tokenise(text), '<i4').tobytes()):08x}" for text in PROBES)


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """The N tokens of an answer, a thought before it left out, and what else might have stood in the place of each.

    Attributes:
        packed: all of it as bytes, which is how it is stored and sent between processes.
    """

    packed: bytes

    @classmethod
    def pack(
        cls,
        tokens: Sequence[int],
        top: Sequence[tuple[NDArray[np.int32], NDArray[np.float32]]],
        *,
        kept: int,
        tokenizer: Sequence[str],
    ) -> TokenLogprobs:
        """Args:
        top: for each token, the likeliest and their log-probabilities, (K,) each; the same K at every token.
        kept: as asked for; K is smaller where the vocabulary is.
        tokenizer: `tokenizer_marks` of the teacher.
        """
        import numpy as np

        width = len(top[0][0]) if top else 0
        return cls(
            b"".join(
                (
                    _HEADER.pack(len(tokenizer), kept, width, len(tokens)),
                    struct.pack(f"<{len(tokenizer)}I", *(int(mark, 16) for mark in tokenizer)),
                    np.asarray(tokens, "<i4").tobytes(),
                    *(ids.astype("<i4").tobytes() for ids, _ in top),
                    *(values.astype("<f4").tobytes() for _, values in top),
                )
            )
        )

    @property
    def kept(self) -> int:
        """How many were asked for at each token."""
        return int(_HEADER.unpack_from(self.packed)[1])

    @property
    def tokenizer(self) -> tuple[str, ...]:
        """`tokenizer_marks` of the teacher."""
        marks = _HEADER.unpack_from(self.packed)[0]
        return tuple(f"{mark:08x}" for mark in struct.unpack_from(f"<{marks}I", self.packed, _HEADER.size))

    @property
    def tokens(self) -> NDArray[np.int32]:
        """int32 [N]."""
        first: NDArray[np.int32] = self._read("<i4", 0, 1)[:, 0]
        return first

    @property
    def ids(self) -> NDArray[np.int32]:
        """int32 [N, K], the likeliest token first."""
        return self._read("<i4", 1, self._width)

    @property
    def logprobs(self) -> NDArray[np.float32]:
        """float32 [N, K], of `ids`, natural logarithms over the whole vocabulary."""
        return self._read("<f4", 1 + self._width, self._width)

    @property
    def _width(self) -> int:
        return int(_HEADER.unpack_from(self.packed)[2])

    def _read(self, kind: str, before: int, width: int) -> NDArray[Any]:
        """A matrix [N, width] of four-byte numbers, after so many numbers for each token."""
        import numpy as np

        marks, _, _, tokens = _HEADER.unpack_from(self.packed)
        start = _HEADER.size + 4 * (marks + before * tokens)
        return np.frombuffer(self.packed, kind, tokens * width, start).reshape(tokens, width)
