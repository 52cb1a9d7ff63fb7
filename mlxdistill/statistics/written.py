"""Signed numbers as they are written, the same in a sentence, a table and a chart."""

from __future__ import annotations

MINUS = "\u2212"


def decimal(value: float) -> str:
    """One decimal, a real minus sign, and never `−0.0`."""
    text = f"{abs(value):,.1f}"
    return f"{MINUS}{text}" if value < 0 and text != "0.0" else text


def signed(value: float) -> str:
    """The same with a plus sign before what is above 0."""
    text = decimal(value)
    return text if text == "0.0" or text.startswith(MINUS) else f"+{text}"
