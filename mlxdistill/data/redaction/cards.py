"""Numbers of payment cards: the lengths and first digits of the issuers, and the check digit (ISO/IEC 7812).

A number without a right check digit counts too where the text calls it a card or groups it like one: a mistyped or
invented number is what a person would want gone as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlxdistill.data.redaction.context import is_said
from mlxdistill.data.redaction.digits import only_digits, passes_luhn
from mlxdistill.data.redaction.spans import Span

_RUN = re.compile(r"(?<![\w+])(?<![0-9][.,-])[0-9](?:[ \u00a0-]?[0-9]){11,18}(?![ \u00a0-]?[0-9]|\w|[.,][0-9])")
_GROUPED = re.compile(r"[0-9]{4}([ \u00a0-])[0-9]{4}\1[0-9]{4}\1[0-9]{1,7}|[0-9]{4}([ \u00a0-])[0-9]{6}\2[0-9]{4,5}")
# Also where another number follows, from which a run of digits could not be told.
_LISTED = re.compile(r"(?<![0-9])[3-6][0-9]{3}([ \u00a0-])[0-9]{4}\1[0-9]{4}\1[0-9]{4}(?![0-9])")
_WORDS = re.compile(
    r"\b(?:credit|debit|cc|visa|master ?card|maestro|amex|american express|diners|discover|jcb|pan"
    r"|(?:kredit|debit|bank|giro)?karten?(?:nummer)?|carte(?: bancaire| bleue)?|tarjeta|carta|cart[aã]o|creditcard"
    r"|cards?)\b",
    re.IGNORECASE,
)
# First digits and lengths: Visa, Mastercard, American Express, Diners Club, Discover, JCB, Maestro, UnionPay.
_ISSUERS = (
    (re.compile(r"4"), (13, 16, 19)),
    (re.compile(r"5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)"), (16,)),
    (re.compile(r"3[47]"), (15,)),
    (re.compile(r"3(?:0[0-5]|095|[689])"), (14, 16, 17, 18, 19)),
    (re.compile(r"6(?:011|4[4-9]|5)"), (16, 17, 18, 19)),
    (re.compile(r"35(?:2[89]|[3-8])"), (16, 17, 18, 19)),
    (re.compile(r"2131|1800"), (15,)),
    (re.compile(r"5[0678]|6"), tuple(range(12, 20))),
    (re.compile(r"220[0-4]|9792|8[12]"), (16, 17, 18, 19)),
)


def find_cards(text: str) -> Iterator[Span]:
    for match in _LISTED.finditer(text):
        if passes_luhn(only_digits(match.group())):
            yield Span(match.start(), match.end(), "card")
    for match in _RUN.finditer(text):
        digits = only_digits(match.group())
        if len(set(digits)) == 1:
            continue
        issued = any(first.match(digits) and len(digits) in lengths for first, lengths in _ISSUERS)
        if (
            (issued and passes_luhn(digits))
            or (issued and _GROUPED.fullmatch(match.group()))
            or is_said(_WORDS, text, match.start(), match.end(), behind=20)
        ):
            yield Span(match.start(), match.end(), "card")
