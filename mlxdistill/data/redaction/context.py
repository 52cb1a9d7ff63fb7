"""Words near a find that say what it is."""

from __future__ import annotations

import re


def is_said(words: re.Pattern[str], text: str, start: int, end: int, *, before: int = 40, behind: int = 0) -> bool:
    """Whether one of the words stands within so many characters of the part `start` to `end`."""
    if words.search(text, max(0, start - before), start):
        return True
    return behind > 0 and words.search(text, end, end + behind) is not None
