"""Numbers as readers see them, and numbers as metrics.json holds them.

Every score goes through `Estimate`, so that an interval or the reason for a missing value cannot be lost on the way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from mlxdistill.statistics.written import decimal, signed

MISSING = "–"
NO_BREAK_SPACE = "\u00a0"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval; None with a reason where there is none."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        return None if self.low is None or self.high is None else (self.low, self.high)


def read_estimate(raw: Any, *, reason: str | None = None) -> Estimate:
    """Reads `{"value", "ci", "reason"}`, a bare number, or null; `reason` stands in where the file gives none."""
    if not isinstance(raw, dict):
        value = finite(raw)
        return Estimate(value, reason=reason if value is None else None)
    value, bounds = finite(raw.get("value")), raw.get("ci")
    low, high = (
        (finite(bounds[0]), finite(bounds[1]))
        if isinstance(bounds, list | tuple) and len(bounds) == 2
        else (None, None)
    )
    return Estimate(value, low, high, raw.get("reason") or (reason if value is None else None))


def finite(raw: Any) -> float | None:
    """The number, or None for anything that is not one: null, a text, NaN, infinity."""
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return None
    return float(raw) if math.isfinite(raw) else None


def percent(share: float | None) -> str:
    """0.91 as `91.0 %`."""
    return MISSING if share is None else f"{decimal(share * 100)}{NO_BREAK_SPACE}%"


def percent_interval(low: float | None, high: float | None) -> str:
    """(0.869, 0.94) as `(86.9–94.0)`; `to` where a sign would run into the dash."""
    if low is None or high is None:
        return ""
    dash = f"{NO_BREAK_SPACE}to{NO_BREAK_SPACE}" if low < 0 or high < 0 else "–"
    return f"({decimal(low * 100)}{dash}{decimal(high * 100)})"


def points(difference: float | None) -> str:
    """-0.012 as `−1.2`, in percentage points; always signed."""
    return MISSING if difference is None else signed(difference * 100)


def points_interval(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return ""
    return f"({signed(low * 100)}{NO_BREAK_SPACE}to{NO_BREAK_SPACE}{signed(high * 100)})"


def whole(count: Any) -> str:
    """12345 as `12,345`."""
    number = finite(count)
    return MISSING if number is None else f"{number:,.0f}"


def rate(per_second: float | None) -> str:
    """Three figures that mean something: `0.58`, `18.3`, `1,240`."""
    if per_second is None:
        return MISSING
    return (
        f"{per_second:,.0f}" if per_second >= 100 else f"{per_second:.1f}" if per_second >= 10 else f"{per_second:.2f}"
    )


def size(amount_bytes: float | None) -> str:
    """Bytes in decimal units, as memory is sold: `1.8 GB`."""
    if amount_bytes is None:
        return MISSING
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if amount_bytes >= factor:
            return f"{amount_bytes / factor:,.1f}{NO_BREAK_SPACE}{unit}"
    return f"{amount_bytes:.0f}{NO_BREAK_SPACE}B"


def duration(seconds: float | None) -> str:
    """Seconds as `4.2 s`, `12 min 05 s` or `3 h 07 min`."""
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f}{NO_BREAK_SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{NO_BREAK_SPACE}min {rest:02d}{NO_BREAK_SPACE}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{NO_BREAK_SPACE}h {minutes:02d}{NO_BREAK_SPACE}min"


def p_value(p: float | None) -> str:
    if p is None:
        return MISSING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
