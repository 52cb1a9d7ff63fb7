"""Pieces of inline SVG.

Colours are never written here: shapes carry class names, and the page's style sheet gives them colours for light, dark
and paper. Text is escaped by Markup.format. No namespace is declared because SVG inside HTML needs none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

CHARACTER_WIDTH = 6.2  # of 11 px system fonts, on the wide side, so that clipped labels never run into the chart


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values in [low, high] to pixels in [start, end]."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def pixel(value: float) -> str:
    text = f"{value:.1f}"
    return text.removesuffix(".0")


def document(key: str, width: float, height: float, title: str, description: str, parts: Iterable[Markup]) -> Markup:
    """The whole drawing. `title` names it and `description` tells what it shows to those who do not see it."""
    return Markup(
        '<svg viewBox="0 0 {w} {h}" role="img" aria-labelledby="{key}-title {key}-desc">'
        '<title id="{key}-title">{title}</title><desc id="{key}-desc">{description}</desc>{parts}</svg>'
    ).format(
        w=pixel(width), h=pixel(height), key=key, title=title, description=description, parts=Markup("").join(parts)
    )


def text(x: float, y: float, content: str, style: str = "", *, anchor: str = "start", turned: bool = False) -> Markup:
    """`turned` writes upwards. `y` is the baseline."""
    turn = Markup(' transform="rotate(-90 {} {})"').format(pixel(x), pixel(y)) if turned else Markup("")
    return Markup('<text x="{}" y="{}" class="{}" text-anchor="{}"{}>{}</text>').format(
        pixel(x), pixel(y), style, anchor, turn, content
    )


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    return Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}"/>').format(*map(pixel, (x1, y1, x2, y2)), style)


def rect(x: float, y: float, width: float, height: float, style: str, *, opacity: float | None = None) -> Markup:
    fade = Markup("") if opacity is None else Markup(' fill-opacity="{}"').format(f"{opacity:.2f}")
    return Markup('<rect x="{}" y="{}" width="{}" height="{}" class="{}"{}/>').format(
        *map(pixel, (x, y, max(0.0, width), max(0.0, height))), style, fade
    )


def circle(x: float, y: float, radius: float, style: str) -> Markup:
    return Markup('<circle cx="{}" cy="{}" r="{}" class="{}"/>').format(pixel(x), pixel(y), pixel(radius), style)


def polyline(corners: Sequence[tuple[float, float]], style: str) -> Markup:
    joined = " ".join(f"{pixel(x)},{pixel(y)}" for x, y in corners)
    return Markup('<polyline points="{}" class="{}"/>').format(joined, style)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most about `most` round values that cover [low, high], the first at or below, the last at or above."""
    largest = max(abs(low), abs(high), 1e-6)
    span = high - low if high - low > 1e-9 * largest else largest
    rough = span / most
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def clipped(content: str, width: float) -> str:
    """The text, shortened with an ellipsis to fit `width` pixels."""
    most = max(2, int(width / CHARACTER_WIDTH))
    return content if len(content) <= most else content[: most - 1] + "…"
