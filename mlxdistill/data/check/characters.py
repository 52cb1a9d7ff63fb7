"""Characters that a person does not see, or sees as something else: counted, never shown.

Each kind has cost somebody a day: texts that read otherwise than they are stored, copies that are no duplicates, words
that a tokenizer tears apart, files that were read in the wrong encoding once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

# How the bytes that continue a character in UTF-8 look where they were read as Windows-1252 or Latin-1.
_CONTINUED = re.escape(bytes(range(0x80, 0xC0)).decode("cp1252", "ignore") + "".join(map(chr, range(0x80, 0xA0))))
_TAGS = "\U000e0000-\U000e007f"

KINDS: Mapping[str, str] = {
    "NUL": "\0",
    "terminal escapes": "[\x1b\x9b]",
    "other control characters": "[\x01-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9a\x9c-\x9f]",
    "direction marks": "[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]",
    "zero-width characters": "[\u200b\u2060\ufeff\u180e]|(?<=[A-Za-z])[\u200c\u200d](?=[A-Za-z])",
    "hidden tag characters": f"(?<![\U0001f3f4{_TAGS}])[{_TAGS}]+",
    "half surrogate pairs": "[\ud800-\udfff]",
    "replacement characters": "\ufffd",
    "wrongly decoded text": (
        f"\xc3[{_CONTINUED}]|\xc2[\xa0-\xbf]|\xe2\u20ac[{_CONTINUED}]|\xf0\u0178[{_CONTINUED}]{{2}}"
        f"|(?:[\xd0\xd1][{_CONTINUED}]){{2,}}"
    ),
    "a chat model's control tokens": r"<\|[A-Za-z_]{2,40}\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>",
}
_NAMES = tuple(KINDS)
_ANY = re.compile("|".join(f"({pattern})" for pattern in KINDS.values()))
# Whatever of these kinds a plain text holds begins with one of these.
_ASCII = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|<\||<<|<s|<e|\[/?INST")


@dataclass(frozen=True, slots=True)
class Found:
    """How many rows have characters of a kind, and how many places they have them in."""

    rows: int
    places: int


class CharacterCounter:
    def __init__(self) -> None:
        self._rows = dict.fromkeys(KINDS, 0)
        self._places = dict.fromkeys(KINDS, 0)

    def see(self, text: str) -> None:
        if text.isascii() and _ASCII.search(text) is None:
            return
        here: set[str] = set()
        for kind in _kinds(text):
            self._places[kind] += 1
            here.add(kind)
        for kind in here:
            self._rows[kind] += 1

    def found(self) -> dict[str, Found]:
        """Of the kinds that there were."""
        return {kind: Found(self._rows[kind], self._places[kind]) for kind in KINDS if self._rows[kind]}


def _kinds(text: str) -> Iterator[str]:
    for match in _ANY.finditer(text):
        assert match.lastindex is not None
        yield _NAMES[match.lastindex - 1]
