"""International bank account numbers: the length each country has, and the checksum (ISO 13616, ISO 7064 mod 97-10)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from mlxdistill.data.redaction.context import is_said
from mlxdistill.data.redaction.spans import Span

# As of the SWIFT IBAN registry.
_LENGTHS_BY_COUNTRY = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 "
    "ES24 "
    "FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 "
    "LC32 "
    "LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 "
    "RO24 "
    "RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
)
LENGTHS = {entry[:2]: int(entry[2:]) for entry in _LENGTHS_BY_COUNTRY.split()}
_BEGINNING = re.compile(r"(?<![A-Za-z0-9])([A-Za-z]{2})[ \u00a0-]?[0-9]{2}")
_WORDS = re.compile(r"\biban\b|\bbank account\b|\bbankverbindung\b|\bkonto", re.IGNORECASE)


def find_ibans(text: str) -> Iterator[Span]:
    """Those whose checksum is wrong count where the text calls them so."""
    for match in _BEGINNING.finditer(text):
        length = LENGTHS.get(match.group(1).upper())
        rest = _rest(length - 4).match(text, match.end()) if length else None
        if rest is None:
            continue
        span = Span(match.start(), rest.end(), "iban")
        written = text[span.start : span.end]
        if passes_mod_97(written) or is_said(_WORDS, text, span.start, span.end):
            yield span


def passes_mod_97(iban: str) -> bool:
    compact = re.sub(r"[^A-Za-z0-9]", "", iban)
    return _remainder(compact[4:] + compact[:4]) == 1


def with_check_digits(country: str, account: str) -> str:
    """The IBAN of an account in the country's own form."""
    return f"{country}{98 - _remainder(f'{account}{country}00'):02d}{account}"


def _remainder(characters: str) -> int:
    return int("".join(str(int(character, 36)) for character in characters)) % 97


@cache
def _rest(count: int) -> re.Pattern[str]:
    return re.compile(rf"(?:[ \u00a0-]?[A-Za-z0-9]){{{count}}}(?![A-Za-z0-9])")
