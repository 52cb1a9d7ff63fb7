"""What is wrong with a draft, as far as that can be seen without asking the teacher."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mlxdistill.experiments.synthesis.journal import Draft
from mlxdistill.tasks.rows import Row, normalised
from mlxdistill.text.language import language_of
from mlxdistill.text.nearest import nearest

NEAR = 0.8  # Jaccard similarity of runs of five characters
USUAL_LENGTHS = (0.01, 0.99)  # quantiles of the characters of a class's rows
USUAL_LANGUAGE = 0.05  # least share of a class's rows
ENOUGH_ROWS = 100  # for quantiles as far out
ROWS_LOOKED_AT = 500  # for their languages

UNFINISHED = "not of the form asked for, or without an end"
EMPTY = "empty"
CHARACTERS = "characters that no text has"
SHORT = "shorter than nearly all rows of its class"
LONG = "longer than nearly all rows of its class"
REPEATED = "written before"
LANGUAGE = "in another language than its class"
COPY = "nearly the same as a row"


@dataclass(frozen=True, slots=True)
class Profile:
    """What rows of a class are like.

    Attributes:
        rows: those that teach it, without synthetic ones.
        shortest, longest: in characters, but for one row in a hundred.
        languages: those that rows are in, where that can be told.
    """

    label: str
    rows: Sequence[Row]
    shortest: int
    longest: int
    languages: frozenset[str]


def profile_of(label: str, rows: Sequence[Row], all_rows: Sequence[Row]) -> Profile:
    """Of a class's rows; where they are few, they do not tell how long rows may be, and all rows that teach count."""
    texts = [row.text for row in (rows if len(rows) >= ENOUGH_ROWS else all_rows)]
    lengths = [len(text.strip()) for text in texts]
    shortest = int(np.quantile(lengths, USUAL_LENGTHS[0], method="lower"))
    longest = int(np.quantile(lengths, USUAL_LENGTHS[1], method="higher"))
    step = -(-len(texts) // ROWS_LOOKED_AT)
    found = Counter(filter(None, map(language_of, texts[::step])))
    usual = frozenset(name for name, count in found.items() if count >= USUAL_LANGUAGE * found.total())
    return Profile(label, rows, shortest, longest, usual)


def faults(
    drafts: Sequence[Draft],
    profiles: Mapping[str, Profile],
    before: Iterable[Draft],
    texts: Callable[[], Iterable[str]],
) -> dict[tuple[str, int], str]:
    """By a draft's key what is wrong with it; drafts with nothing wrong are left out.

    Args:
        before: drafts that were judged already.
        texts: of all rows of all sets and of the synthetic rows so far, normalised.
    """
    found: dict[tuple[str, int], str] = {}
    seen = {normalised(draft.text) for draft in before if draft.text is not None}
    standing: list[tuple[Draft, str]] = []
    for draft in drafts:
        text = "" if draft.text is None else normalised(draft.text)
        fault = REPEATED if text in seen and draft.text else _own_fault(draft, profiles[draft.label])
        if fault is not None:
            found[draft.key] = fault
        else:
            standing.append((draft, text))
        seen.add(text)
    if standing:
        similarities = nearest([text for _, text in standing], texts())
        for (draft, _), similarity in zip(standing, similarities, strict=True):
            if similarity >= NEAR:
                found[draft.key] = COPY
    return found


def _own_fault(draft: Draft, profile: Profile) -> str | None:
    """What is wrong with the text in itself."""
    if draft.text is None:
        return UNFINISHED
    text = draft.text
    if not text:
        return EMPTY
    if any(character == "\ufffd" or _is_control(character) for character in text):
        return CHARACTERS
    if len(text) < profile.shortest:
        return SHORT
    if len(text) > profile.longest:
        return LONG
    language = language_of(text)
    if language is not None and profile.languages and language not in profile.languages:
        return LANGUAGE
    return None


def _is_control(character: str) -> bool:
    return character not in "\n\r\t" and unicodedata.category(character) in ("Cc", "Cs", "Cn", "Co")
