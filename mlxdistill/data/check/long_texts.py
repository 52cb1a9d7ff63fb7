"""Texts that may be too long for a model, kept until its tokenizer can be asked."""

from __future__ import annotations

import numpy as np

MOST_TEXTS = 200
BYTES_ASKED = 64  # a token's bytes that the kept part of a text allows for


class LongTexts:
    """Keeps the texts of more bytes than `room`, since no tokenizer makes more tokens of a text than it has bytes.

    Where there are more than MOST_TEXTS, so many by chance (reservoir sampling, Vitter 1985).

    Args:
        room: tokens that a text may have.

    Attributes:
        texts: those kept; `count`: how many there were.
    """

    def __init__(self, room: int) -> None:
        self._room = max(0, room)
        self._random = np.random.Generator(np.random.PCG64(0))
        self.texts: list[str] = []
        self.count = 0

    def see(self, text: str) -> None:
        if len(text) * 4 <= self._room or len(text.encode("utf-8", "surrogatepass")) <= self._room:
            return
        self.count += 1
        kept = text[: (self._room + 1) * BYTES_ASKED]
        if len(self.texts) < MOST_TEXTS:
            self.texts.append(kept)
        elif (place := int(self._random.integers(self.count))) < MOST_TEXTS:
            self.texts[place] = kept
