"""Where in a text something personal stands, and what kind of thing it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

from mlxdistill.config.redaction import MODEL_KINDS, Kind

# In the order of priority where two spans of one length overlap.
KINDS = get_args(Kind)
PATTERN_KINDS = tuple(kind for kind in KINDS if kind not in MODEL_KINDS)
# A plain address of a page is seldom personal: it is looked for where it is asked for.
USUAL_KINDS = tuple(kind for kind in KINDS if kind != "url")

_PRIORITY = {kind: place for place, kind in enumerate(KINDS)}


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Characters `start` to `end` (exclusive) of a text, of one of `KINDS`."""

    start: int
    end: int
    kind: str


def settled(spans: Iterable[Span]) -> list[Span]:
    """Spans that do not overlap, in the order of the text.

    Those that overlap become one, so that everything that was found is covered. Its kind is that of the longest of
    them, among equally long ones the kind that stands first in `KINDS`.
    """
    found: list[Span] = []
    best: tuple[int, int] = (0, 0)
    for span in sorted(spans):
        rank = (span.end - span.start, -_PRIORITY[span.kind])
        if not found or span.start >= found[-1].end:
            found.append(span)
            best = rank
            continue
        last = found[-1]
        found[-1] = Span(last.start, max(last.end, span.end), span.kind if rank > best else last.kind)
        best = max(rank, best)
    return found


def outside(text: str, spans: Iterable[Span], shields: Iterable[tuple[int, int]]) -> list[Span]:
    """What of settled spans lies outside of the shields, without white space and signs at its ends."""
    pieces = []
    barriers = deque(sorted(shields))
    for span in spans:
        start = span.start
        while barriers and barriers[0][0] < span.end:
            left, right = barriers.popleft()
            pieces.append(Span(start, max(start, left), span.kind))
            start = max(start, right)
        pieces.append(Span(start, max(start, span.end), span.kind))
        if start > span.end:
            barriers.appendleft((span.end, start))
    return [trimmed for piece in pieces if (trimmed := _trimmed(text, piece)) is not None]


def beyond(text: str, spans: Iterable[Span], known: Iterable[tuple[int, int]]) -> list[Span]:
    """Those of settled spans that hold a letter or digit outside of the `known` parts, each with the parts it touches.

    So a part that a span runs into is no more taken for what it seems.
    """
    is_known = bytearray(len(text))
    for start, end in known:
        is_known[start:end] = b"\1" * (end - start)
    found = []
    for span in spans:
        start, end = span.start, span.end
        if all(is_known[place] or not text[place].isalnum() for place in range(start, end)):
            continue
        while start > 0 and is_known[start] and is_known[start - 1]:
            start -= 1
        while end < len(text) and is_known[end - 1] and is_known[end]:
            end += 1
        found.append(Span(start, end, span.kind))
    return settled(found)


def _trimmed(text: str, span: Span) -> Span | None:
    """Without white space at its ends; None where it holds no letter and no digit."""
    piece = text[span.start : span.end]
    if not any(map(str.isalnum, piece)):
        return None
    start = span.start + len(piece) - len(piece.lstrip())
    return Span(start, start + len(piece.strip()), span.kind)
