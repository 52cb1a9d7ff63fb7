"""Text of other people on its way to a terminal: what would be obeyed there is written out instead.

Names of columns, labels and files can hold escape sequences, which colour, move, retitle or erase, and marks that turn
the direction of what is read. They are shown as `\\u001b`; in JSON that is the same string.
"""

from __future__ import annotations

import re

# Control characters but tab and line feed; line and direction marks; halves of surrogate pairs, which no stream takes.
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060\u2066-\u2069\ufeff\ud800-\udfff]"
)


def visible(text: str) -> str:
    """The text with `\\uXXXX` in place of every character that a terminal would obey, or that cannot be written."""
    return _OBEYED.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
