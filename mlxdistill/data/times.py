"""When a row was written, in whatever form a file says it.

What could be read in two ways is refused: the third of April and the fourth of March, both written 03/04/2024, would
mix past and future without a word.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from mlxdistill.tasks.classification import scalar_text

MILLISECONDS = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Seconds since 1970 up to the year 5138; beyond, milliseconds, microseconds, nanoseconds of about the same years.
_UNITS = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (1e20, 1e9))
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?")
_YEAR_OR_MONTH = re.compile(r"(19|20)\d{2}(0[1-9]|1[0-2])?")  # as seconds they would all be of January 1970
_DATE_NUMBER = re.compile(r"(19|20)\d{6}")
_FORMS = (
    "%d.%m.%Y",
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y %H:%M:%S",
    "%d %b %Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%a %b %d %H:%M:%S %z %Y",
)
_EITHER_FIRST = re.compile(r"\d{1,2}[/-]\d{1,2}[/-]\d{2,4}\b.*", re.DOTALL)


def read_time(value: Any) -> int:
    """Milliseconds since 1970, UTC; what names no zone is taken for UTC.

    Args:
        value: an ISO 8601 date or time, a number (20241231; or seconds, milliseconds, microseconds or nanoseconds
            since 1970, told apart by size), a time as in e-mail, `31.12.2024`, `31 Dec 2024`, `Dec 31, 2024`; or what
            a table gives.

    Raises ValueError, with a reason that does not show the value.
    """
    if isinstance(value, bool):
        raise ValueError("the time is a boolean")
    if isinstance(value, date):
        return _of_date(value)
    if not isinstance(value, str | int | float):
        raise ValueError("the time is neither a string nor a number")
    text = scalar_text(value).strip()
    if _DATE_NUMBER.fullmatch(text):
        return _of_date(_parsed(text))
    if _YEAR_OR_MONTH.fullmatch(text):
        raise ValueError("the time is a year or a month alone; write it year-month-day")
    if isinstance(value, int | float) or _NUMBER.fullmatch(text):
        try:
            return _of_number(float(value))
        except OverflowError as error:
            raise ValueError("the time is too large a number") from error
    if _EITHER_FIRST.fullmatch(text):
        raise ValueError("the time may be meant day first or month first; write it year-month-day")
    return _of_date(_parsed(text))


def shown_time(milliseconds: int) -> str:
    """ISO 8601 in UTC, always of the same length, so that such strings sort as the times do."""
    return (_EPOCH + timedelta(milliseconds=milliseconds)).isoformat(timespec="milliseconds")


def _of_number(value: float) -> int:
    if math.isnan(value):
        raise ValueError("the time is no number")
    for most, per_second in _UNITS:
        if abs(value) < most:
            milliseconds = round(value * MILLISECONDS / per_second)
            return _in_range(milliseconds)
    raise ValueError("the time is too large a number")


def _of_date(value: date) -> int:
    moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    milliseconds = round((moment - _EPOCH).total_seconds() * MILLISECONDS)
    return _in_range(milliseconds)


def _in_range(milliseconds: int) -> int:
    try:
        shown_time(milliseconds)
    except (OverflowError, ValueError, OSError) as error:
        raise ValueError("the time is outside of the years 1 to 9999") from error
    return milliseconds


def _parsed(text: str) -> datetime:
    iso = re.sub(r"^(\d{4})/(\d{1,2})/(\d{1,2})", lambda found: "{}-{:0>2}-{:0>2}".format(*found.groups()), text)
    try:
        return datetime.fromisoformat(iso.removesuffix(" UTC"))
    except ValueError:
        pass
    for form in _FORMS:
        try:
            return datetime.strptime(text, form)
        except ValueError:
            continue
    try:
        return parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise ValueError(
            "the time is no date that can be read; write it as 2024-12-31 or 2024-12-31T23:59:00Z"
        ) from error
