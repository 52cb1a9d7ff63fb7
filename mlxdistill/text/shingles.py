"""A text as the set of its runs of five characters, and MinHash signatures of many such sets at once.

Two sets have the same minimum under a random permutation with a probability that is their Jaccard similarity (Broder
1997, On the resemblance and containment of documents). The permutations here are linear, x * odd + c modulo 2**32, over
well mixed hashes of the shingles; NumPy does one of them for hundreds of texts at a time, where libraries that go
text by text spend their time in Python. Nothing depends on Python's own hashes, which differ between processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Signatures: TypeAlias = NDArray[np.uint32]

SHINGLE_CHARACTERS = 5
LIST_CHARACTERS = 2**17  # as many as stay in a processor's cache while all permutations go over them
_SEED = 5
_PACKED_BASE = np.uint64(7131)  # the largest whose fifth power is less than 2**64
_LOW_CODES = (
    0x1000  # letters from Latin to Tibetan, and from here on those from Latin with two marks to arrows and signs
)
_HIGH_FROM = 0x1E00
_HIGH_TO = _HIGH_FROM + 7130 - _LOW_CODES
_WEIGHTS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93, 0xFF51AFD7ED558CCD)


def shingles(text: str) -> set[str]:
    """All runs of five characters; of a shorter text, the text itself. Never empty."""
    return {text[start : start + SHINGLE_CHARACTERS] for start in range(max(1, len(text) - SHINGLE_CHARACTERS + 1))}


def packed_shingles(text: str) -> NDArray[np.uint64] | None:
    """The same set as distinct numbers, ascending, with no two shingles under one number.

    None where a character has no place among the 7,130 that can be told apart in a fifth of 64 bits: those of Chinese,
    Korean, most of the signs that are pictures.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
    high = codes >= _LOW_CODES
    if high.any():
        if ((codes[high] < _HIGH_FROM) | (codes[high] >= _HIGH_TO)).any():
            return None
        codes[high] -= np.uint64(_HIGH_FROM - _LOW_CODES)
    codes += np.uint64(1)  # so that a text of fewer characters is no shingle of another
    count = max(1, len(codes) - SHINGLE_CHARACTERS + 1)
    packed = np.zeros(count, np.uint64)
    for place in range(min(SHINGLE_CHARACTERS, len(codes))):
        packed = packed * _PACKED_BASE + codes[place : place + count]
    packed.sort()
    distinct: NDArray[np.uint64] = packed[np.concatenate([[True], packed[1:] != packed[:-1]])]
    return distinct


def signatures(texts: Iterable[str], count: int) -> Iterator[Signatures]:
    """The signatures of the texts in order, some (n, count) of them at a time."""
    random = np.random.Generator(np.random.PCG64(_SEED))
    factors = random.integers(0, 2**31, count, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    shifts = random.integers(0, 2**32, count, dtype=np.uint32)
    last: Signatures | None = None  # of the text that the list before ended with, as far as it was seen
    last_owner = -1
    for pieces in _lists(_pieces(texts)):
        owners = np.array([owner for owner, _ in pieces])
        first = np.flatnonzero(np.diff(owners, prepend=-1))
        found = np.minimum.reduceat(_minima([text for _, text in pieces], factors, shifts), first, axis=0)
        if last is not None and owners[0] == last_owner:
            np.minimum(found[0], last, out=found[0])
        elif last is not None:
            yield last[None]
        last, last_owner = found[-1], int(owners[-1])
        if len(found) > 1:
            yield found[:-1]
    if last is not None:
        yield last[None]


def _pieces(texts: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Texts with their numbers, long ones in pieces that share no shingle and miss none."""
    overlap = SHINGLE_CHARACTERS - 1
    for number, text in enumerate(texts):
        for start in range(0, max(1, len(text) - overlap), LIST_CHARACTERS):
            yield number, text[start : start + LIST_CHARACTERS + overlap]


def _lists(pieces: Iterable[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    collected: list[tuple[int, str]] = []
    characters = 0
    for piece in pieces:
        collected.append(piece)
        characters += max(SHINGLE_CHARACTERS, len(piece[1]))
        if characters >= LIST_CHARACTERS:
            yield collected
            collected, characters = [], 0
    if collected:
        yield collected


def _minima(pieces: Sequence[str], factors: Signatures, shifts: Signatures) -> Signatures:
    """The minimum of each piece under each permutation: (pieces, permutations)."""
    padded = [piece.ljust(SHINGLE_CHARACTERS, "\0") for piece in pieces]
    lengths = np.array([len(piece) for piece in padded])
    starts = np.cumsum(lengths) - lengths
    # Windows that reach into the next piece fall into segments of their own, every second one, which are left out.
    borders = np.column_stack([starts, starts + lengths - SHINGLE_CHARACTERS + 1]).ravel()
    hashes = _hashes("".join(padded))
    minima = np.empty((len(factors), len(pieces)), np.uint32)
    for number, (factor, shift) in enumerate(zip(factors, shifts, strict=True)):
        minima[number] = np.minimum.reduceat(hashes * factor + shift, borders)[::2]
    return np.ascontiguousarray(minima.T)


def _hashes(text: str) -> Signatures:
    """A hash of the five characters from each one on; behind the text's end stand zeros."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
    codes = np.concatenate([codes, np.zeros(SHINGLE_CHARACTERS - 1, np.uint64)])
    end = len(codes) - SHINGLE_CHARACTERS + 1
    mixed = np.zeros(end, np.uint64)
    for place, weight in enumerate(_WEIGHTS):
        mixed += codes[place : place + end] * np.uint64(weight)
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(_WEIGHTS[0])
    return (mixed >> np.uint64(32)).astype(np.uint32)
