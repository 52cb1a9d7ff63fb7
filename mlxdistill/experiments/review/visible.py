"""Text as it may be shown: what is hidden in it becomes visible, and nothing in it can act on what stands around it.

Characters without a shape (controls, bidi overrides, zero-width ones, halves of surrogate pairs, tags) can hide words
or turn them round; each run of them becomes a mark with its name. Those that belong to what a person sees stay: joiners
and selectors within an emoji, joiners between letters of scripts that are written with them.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regex import Pattern

SHORT_NAMES = {
    0x00AD: "SHY",
    0x061C: "ALM",
    0x200B: "ZWSP",
    0x200C: "ZWNJ",
    0x200D: "ZWJ",
    0x200E: "LRM",
    0x200F: "RLM",
    0x2028: "LS",
    0x2029: "PS",
    0x202A: "LRE",
    0x202B: "RLE",
    0x202C: "PDF",
    0x202D: "LRO",
    0x202E: "RLO",
    0x2060: "WJ",
    0x2066: "LRI",
    0x2067: "RLI",
    0x2068: "FSI",
    0x2069: "PDI",
    0xFEFF: "BOM",
}


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text; or, with a `name`, a mark for hidden characters, whose `text` says what they are."""

    text: str
    name: str = ""

    def to_json(self) -> list[str]:
        return [self.text, self.name] if self.name else [self.text]


def visible_pieces(text: str) -> Iterator[Piece]:
    """The text in pieces, in order. The pieces without a name hold nothing hidden."""
    start, text = 0, text.replace("\r\n", "\n")
    for match in _pattern().finditer(text):
        hidden = match.group("hidden")
        if hidden is not None:
            if match.start() > start:
                yield Piece(text[start : match.start()])
            yield _mark(hidden, match.end() - match.start())
            start = match.end()
    if start < len(text):
        yield Piece(text[start:])


def visible(text: str) -> str:
    """The text on one line, hidden characters as `[ZWSP]` or `[U+0007]`."""
    shown = (f"[{piece.name}]" if piece.name else piece.text for piece in visible_pieces(text))
    return " ".join("".join(shown).split())


def _mark(character: str, count: int) -> Piece:
    code = ord(character)
    times = f" ×{count:,}" if count > 1 else ""
    full = unicodedata.name(character, "a character without a name").lower()
    return Piece(f"{full} (U+{code:04X}){times}", SHORT_NAMES.get(code, f"U+{code:04X}") + times)


@functools.cache
def _pattern() -> Pattern[str]:
    """Runs of one hidden character (`hidden`), or such as belong to the visible ones beside them."""
    import regex

    return regex.compile(
        r"""(?V1)
        \p{Emoji}[\uFE0E\uFE0F]\u20E3?
        | (?<=[\p{Extended_Pictographic}\p{Emoji_Modifier}\uFE0F])\u200D(?=\p{Extended_Pictographic})
        | \U0001F3F4[\U000E0030-\U000E0039\U000E0061-\U000E007A]{2,6}\U000E007F
        | (?<=\p{Han})[\uFE00-\uFE02\U000E0100-\U000E01EF]
        | (?<=[\p{L}\p{M}&&[\p{Arabic}\p{Syriac}\p{Devanagari}\p{Bengali}\p{Gurmukhi}\p{Gujarati}\p{Oriya}\p{Tamil}
                \p{Telugu}\p{Kannada}\p{Malayalam}\p{Sinhala}]])[\u200C\u200D](?=[\p{L}\p{M}])
        | (?P<hidden>[\p{Default_Ignorable_Code_Point}\p{Cc}\p{Cs}\p{Cn}\p{Zl}\p{Zp}\uFFF9-\uFFFB--[\t\n]])(?P=hidden)*
        """,
        regex.VERBOSE,
    )
