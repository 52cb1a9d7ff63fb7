"""The next token of an answer: the likeliest, or drawn by temperature and seed.

A draw is the largest of the logits, divided by the temperature, each with noise of Gumbel's distribution added, which
draws from their softmax exactly (Gumbel 1954; Maddison, Tarlow, Minka 2014). Under a grammar it is the largest that the
grammar allows, which draws from the softmax over the allowed tokens alone.

The noise of a token depends on the seed, the row, the sample, the step and the token: what a row draws is the same
whatever shares a batch with it. Its source are 32 bits a token, of which most say at once that the token cannot win, so
that logarithms are taken for few. A token less than e^-22 as likely as the likeliest is never drawn.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlxdistill.tasks.token_logprobs import LEAST_LOGPROB
from mlxdistill.teacher.grammar import Matcher

BITS = 32
FEW = 64
WINDOW = 5.0  # below the winner, in which the few next are looked for
BLOCK = 64  # tokens of which at first only the likeliest is looked at
BAND = 6.0  # below the likeliest token, in which all tokens are looked at


def draw_key(seed: int, row_id: str, sample: int, attempt: int) -> int:
    """What stands for the draws of one answer."""
    text = f"{seed}/{sample}/{attempt}/{row_id}".encode("utf-8", "replace")
    return int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")


def noise_bits(key: int, step: int, count: int) -> NDArray[np.uint32]:
    """The source of the noise of each token: (count,)."""
    raw = np.random.Philox(counter=step << 64, key=key).random_raw((count + 1) // 2)
    bits: NDArray[np.uint32] = raw.view(np.uint32)[:count]
    return bits


def gumbel(bits: NDArray[Any]) -> NDArray[np.float64]:
    """The noise that these bits make. It rises with them."""
    result: NDArray[np.float64] = -np.log(-np.log((bits + 0.5) * 2.0**-BITS))
    return result


def draw(
    logits: NDArray[np.float32], temperature: float, key: int, step: int, matcher: Matcher | None = None
) -> int | None:
    """The next token, or None where the grammar allows none.

    Args:
        logits: one for each token of the vocabulary, the largest finite.
        temperature: 0 takes the likeliest token.
        key: of the answer; `step`: the token's number in it.
        matcher: where the answer stands in its grammar.
    """
    order = _Drawn(logits, temperature, noise_bits(key, step, len(logits))) if temperature > 0 else _Likeliest(logits)
    if matcher is None:
        return order.first()
    if (known := matcher.known()) is not None:
        return order.best_of(known)
    first = order.first()
    if matcher.allows(np.array([first]))[0]:
        return first
    next_few = order.few()
    allowed = matcher.allows(next_few)
    if allowed.any():
        return int(next_few[allowed.argmax()])
    return order.best_of(matcher.every())


def likeliest(logits: NDArray[np.float32], count: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The likeliest tokens, the first first, and their log-probabilities: (count,) each, or all of a small vocabulary.

    They are the model's own, over the whole vocabulary: what a grammar then forbids, and a temperature flattens,
    decides what is written, and says nothing about what the model thinks. A student learns the thought; and whoever
    wants it under a grammar or at a temperature can still make that of it, but not the other way round.

    Args:
        logits: one for each token of the vocabulary, the largest finite.
    """
    count = min(count, len(logits))
    blocks = len(logits) // BLOCK
    if blocks > count:  # so many tokens at least are as likely as the block that comes last among the best
        best = logits[: blocks * BLOCK].reshape(blocks, BLOCK).max(axis=1)
        tokens = np.flatnonzero(logits >= np.partition(best, -count)[-count])
    else:
        tokens = np.arange(len(logits))
    tokens = tokens[np.lexsort((tokens, -logits[tokens]))[:count]]
    largest = logits[tokens[0]]
    # Each term is exact to float32, as is what is kept; it is their sum that needs more.
    total = math.log(np.exp(logits - largest).sum(dtype=np.float64))
    kept = logits[tokens].astype(np.float64) - float(largest) - total
    return tokens.astype(np.int32), np.maximum(kept, LEAST_LOGPROB).astype(np.float32)


class _Likeliest:
    """Tokens by their logits."""

    def __init__(self, logits: NDArray[np.float32]) -> None:
        self._logits = logits

    def first(self) -> int:
        return int(self._logits.argmax())

    def few(self) -> NDArray[np.int64]:
        """The first and those right after it, in order; none is left out between them. May be empty."""
        logits = self._logits
        count = min(FEW, len(logits))
        tokens = np.argpartition(logits, -count)[-count:]
        tokens = tokens[logits[tokens] > logits[tokens].min()]  # of others just as likely some may be left out
        ordered: NDArray[np.int64] = tokens[np.lexsort((tokens, -logits[tokens]))]
        return ordered

    def best_of(self, tokens: NDArray[np.int32]) -> int | None:
        return int(tokens[self._logits[tokens].argmax()]) if len(tokens) else None


class _Drawn:
    """Tokens by their logits over the temperature, above that of the likeliest, with noise."""

    def __init__(self, logits: NDArray[np.float32], temperature: float, bits: NDArray[np.uint32]) -> None:
        self._logits = logits
        self._temperature = temperature
        self._bits = bits
        self._top = int(logits.argmax())

    def first(self) -> int:
        noisiest = np.flatnonzero(self._bits >= _threshold(math.log(len(self._bits) / FEW)))
        tokens = np.append(noisiest, self._top)
        tokens = self._over(float(self._values(tokens).max()))
        return int(tokens[self._values(tokens).argmax()])

    def few(self) -> NDArray[np.int64]:
        """The first and those right after it, in order; none is left out between them."""
        least = float(self._values(np.array([self.first()]))[0]) - WINDOW
        tokens = self._over(least)
        values = self._values(tokens)
        order = np.argsort(-values, kind="stable")[:FEW]
        found: NDArray[np.int64] = tokens[order[values[order] >= least]]
        return found

    def best_of(self, tokens: NDArray[np.int32]) -> int | None:
        return int(tokens[self._values(tokens).argmax()]) if len(tokens) else None

    def _values(self, tokens: NDArray[Any]) -> NDArray[np.float64]:
        logits = self._logits[tokens].astype(np.float64) - float(self._logits[self._top])
        values: NDArray[np.float64] = logits / self._temperature + gumbel(self._bits[tokens])
        return values

    def _over(self, least: float) -> NDArray[np.int64]:
        """All tokens whose value may reach `least`, and some others, ascending.

        No value is above its noise, so what is needed is noise of `least`; and `band` more than that of a token whose
        logit lies so far below the likeliest.
        """
        band = BAND - min(least, 0.0)
        near = self._logits >= float(self._logits[self._top]) - band * self._temperature
        near |= self._bits >= _threshold(least + band)
        near &= self._bits >= _threshold(least)
        return np.flatnonzero(near)


def _threshold(noise: float) -> np.uint32:
    """Bits that are fewer make less noise than this; a little is given away, against rounding."""
    bits = math.exp(-math.exp(-noise + 1e-6)) * 2.0**BITS - 2.0
    return np.uint32(max(0.0, min(bits, 2.0**BITS - 1)))
