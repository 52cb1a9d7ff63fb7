"""Phone numbers.

A run of digits counts as one where it is written as only phone numbers are (a country's prefix, 3-3-4 digits as in
North America, an extension), where a word of telephony stands near, or where it is grouped and the library
`phonenumbers` finds it valid in one of the countries asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mlxdistill.data.redaction.births import DATE
from mlxdistill.data.redaction.context import is_said
from mlxdistill.data.redaction.digits import only_digits
from mlxdistill.data.redaction.spans import Span

USUAL_REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "CA", "AU", "IN")
FEWEST_DIGITS, MOST_DIGITS = 6, 15
_EXTENSION = r"(?:[ ,;]{0,2}(?:x|ext\.?|extension|#)[ .:]{0,2}[0-9]{1,6})?"
_CANDIDATE = re.compile(
    rf"(?<![\w@])(?<![0-9][.,:/-])(?:\+|\()?[0-9](?:[ \u00a0()./\u2010-\u2013-]{{0,3}}[0-9]){{5,16}}"
    rf"{_EXTENSION}(?![\w]|[.,:/-][0-9]|[ \u00a0-][0-9])",
    re.IGNORECASE,
)
_INTERNATIONAL = re.compile(r"\(?\+|00[1-9]")
_NORTH_AMERICAN = re.compile(
    r"(?:1[ .-])?(?:\([0-9]{3}\)[ \u00a0-]?[0-9]{3}[ .-][0-9]{4}"
    r"|[0-9]{3}([.-])[0-9]{3}\1[0-9]{4}|[0-9]{3} [0-9]{3}[ -][0-9]{4})(?:[ ,;]{0,2}(?:x|ext|#).*)?",
    re.IGNORECASE,
)
_WORDS = re.compile(
    r"\b(?:(?:tele)?phones?|tel(?:efon|éfono|efono|efoon|efone|\b)|mobiles?|cell(?:phone|ular)?|fax|call(?:ed|ing|s)?"
    r"|dial(?:ed|ling)?"
    r"|desk|office|hotline|whats ?app|sms|text(?:ed|ing)? (?:me|us|him|her|them)|reach|ring|answering|contact"
    r"|registered|landline"
    r"|handy(?:nummer)?|mobil(?:nummer|e|telefon)?|rufnummer|durchwahl|anrufen|t[ée]l|portable|appele[rz]|m[óo]vil"
    r"|llam[ae]r?"
    r"|cellulare|chiama(?:re|mi)?|bellen|ligar|celular|telemóvel|numéro|ph|messages? to)\b",
    re.IGNORECASE,
)
_BOOK = re.compile(r"isbn|issn|doi", re.IGNORECASE)
_GROUPS = re.compile(r"[0-9]+")
# Addresses of computers, dates, years from one to another.
_OTHERWISE = re.compile(
    r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}|(?:1[5-9]|20)[0-9]{2} ?[-/\u2013] ?(?:1[5-9]|20)[0-9]{2}|" + DATE.pattern,
    re.IGNORECASE,
)


# Also where another number follows, from which a run of digits could not be told.
_LISTED = re.compile(
    r"(?<![\w.-])(?:\+?1[ .-])?(?:\([0-9]{3}\) ?[0-9]{3}[.-][0-9]{4}|[0-9]{3}([.-])[0-9]{3}\1[0-9]{4})(?![\w]"
    r"|[.-][0-9])"
)


def find_phones(text: str, regions: Sequence[str] = USUAL_REGIONS) -> Iterator[Span]:
    """Phone numbers; those without a country's prefix that nothing else gives away, where a region has such numbers."""
    for match in _LISTED.finditer(text):
        yield Span(match.start(), match.end(), "phone")
    for match in _CANDIDATE.finditer(text):
        if _BOOK.search(text, max(0, match.start() - 12), match.start()):
            continue
        written = match.group()
        start = match.start()
        if written.startswith("(") and ")" not in written:
            start += 1
            written = written[1:]
        digits = only_digits(re.split(r"x|ext|#", written, maxsplit=1, flags=re.IGNORECASE)[0])
        if (
            not FEWEST_DIGITS <= len(digits) <= MOST_DIGITS + 2
            or len(set(digits)) == 1
            or _OTHERWISE.fullmatch(written)
        ):
            continue
        if (
            (_INTERNATIONAL.match(written) and len(digits) >= 8)
            or _NORTH_AMERICAN.fullmatch(written)
            or is_said(_WORDS, text, start, match.end(), before=30, behind=12)
            or _is_valid(written, regions)
        ):
            yield Span(start, match.end(), "phone")


def _is_valid(written: str, regions: Sequence[str]) -> bool:
    """Whether one of the regions has such a number, and it is grouped as a person groups one."""
    if not 3 <= len(_GROUPS.findall(written)) <= 6:
        return False
    from phonenumbers import NumberParseException, is_valid_number, parse

    for region in regions:
        try:
            if is_valid_number(parse(written, region)):
                return True
        except NumberParseException:
            continue
    return False
