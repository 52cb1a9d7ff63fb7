"""How varied texts are: how many of their phrases come once only, and how much alike they are."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mlxdistill.text.nearest import nearest

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Diversity:
    """Of some texts.

    Attributes:
        texts: how many.
        distinct: for 1, 2 and 3, the share of runs of so many words that are different ones (distinct-n; Li et al.
            2016, 1510.03055). It falls with the number of texts: compare as many.
        self_similarity: the mean, over the texts, of the largest similarity to another of them; None of a single one.
    """

    texts: int
    distinct: tuple[float | None, float | None, float | None]
    self_similarity: float | None


def diversity(texts: Sequence[str]) -> Diversity:
    """Of normalised texts."""
    alike = nearest(texts, texts, but_itself=True)
    similarity = float(alike.mean()) if len(texts) > 1 else None
    return Diversity(len(texts), (distinct(texts, 1), distinct(texts, 2), distinct(texts, 3)), similarity)


def distinct(texts: Sequence[str], words: int) -> float | None:
    """The share of all runs of so many words that are different ones; None where there is no run."""
    runs = [run for text in texts for run in _runs(_WORD.findall(text), words)]
    return len(set(runs)) / len(runs) if runs else None


def _runs(words: Sequence[str], length: int) -> list[tuple[str, ...]]:
    return list(zip(*(itertools.islice(words, start, None) for start in range(length)), strict=False))
