"""What numbers with a check digit have in common."""

from __future__ import annotations

import re

_DIGIT = re.compile(r"[0-9]")
NOT_DIGIT = re.compile(r"[^0-9]")


def has_digits(text: str, count: int) -> bool:
    """Whether there are so many, anywhere: most texts have none, and are done with."""
    place, found = -1, 0
    while found < count and (match := _DIGIT.search(text, place + 1)):
        place, found = match.start(), found + 1
    return found == count


def only_digits(text: str) -> str:
    return NOT_DIGIT.sub("", text)


def passes_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    return (luhn_sum(digits[:-1]) + int(digits[-1])) % 10 == 0


def luhn_digit(digits: str) -> str:
    """The check digit to put behind the digits."""
    return str(-luhn_sum(digits) % 10)


def luhn_sum(digits: str) -> int:
    doubled = (int(digit) * (2 - place % 2) for place, digit in enumerate(reversed(digits)))
    return sum(value - 9 * (value > 9) for value in doubled)
