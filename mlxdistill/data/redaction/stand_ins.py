"""Invented values in the place of personal ones, which belong to nobody and can be told as such.

Each comes from a range that is set apart: addresses at example.com (RFC 2606), numbers 555-0100 to 0199 (North American
numbering plan, fiction), networks for documentation (RFC 5737, 3849), card numbers 4000 0000 00.. (what payment
processors test with), IBANs of a bank TEST, area 000 of the social security, years of birth that nobody lives from. So
a text with stand-ins is left as it is when it is redacted again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from mlxdistill.data.redaction.births import DATE
from mlxdistill.data.redaction.digits import luhn_digit, only_digits
from mlxdistill.data.redaction.emails import find_emails
from mlxdistill.data.redaction.ibans import with_check_digits

_NAMES = [
    "Abrin",
    "Belvo",
    "Cardun",
    "Delphar",
    "Ebrun",
    "Falvo",
    "Garlen",
    "Hestor",
    "Ilven",
    "Jorvan",
    "Kelmar",
    "Lorvin",
    "Mavren",
    "Nelvar",
    "Orlund",
    "Pelvin",
    "Quarn",
    "Relvo",
    "Selmor",
    "Tarven",
    "Ulvar",
    "Velmar",
    "Wendor",
    "Xelvin",
    "Yorvan",
    "Zelmar",
    "Ardun",
    "Brelvo",
    "Corvan",
    "Drelmar",
    "Elvor",
    "Frendor",
    "Grelvin",
    "Halvorn",
    "Irdun",
    "Jelmar",
    "Korven",
    "Lendor",
    "Mirdun",
    "Norvel",
]
_AREAS = ("201", "202", "303", "404", "415", "512", "617", "702", "808", "916")


def _email(value: str, number: int) -> str:
    return f"{_NAMES[number % len(_NAMES)].lower()}{number % 9973}@example.com"


def _phone(value: str, number: int) -> str:
    line = f"{_AREAS[number // 100 % len(_AREAS)]}-555-01{number % 100:02d}"
    return f"+1-{line}" if value.lstrip("(").startswith(("+", "00")) else line


def _card(value: str, number: int) -> str:
    digits = f"4000000000{number % 100_000:05d}"
    digits += luhn_digit(digits)
    separator = next((character for character in value if not character.isdecimal()), "")
    return separator.join(digits[start : start + 4] for start in range(0, 16, 4))


def _iban(value: str, number: int) -> str:
    iban = with_check_digits("GB", f"TEST{number % 10**14:014d}")
    separator = next((character for character in value if not character.isalnum()), "")
    return separator.join(iban[start : start + 4] for start in range(0, 22, 4))


def _ip(value: str, number: int) -> str:
    if ":" in value:
        return f"2001:db8::{number % 0xFFFF + 1:x}"
    network = ("192.0.2", "198.51.100", "203.0.113")[number // 254 % 3]
    return f"{network}.{number % 254 + 1}"


def _national_id(value: str, number: int) -> str:
    if any(map(str.isalpha, value)):
        return f"QQ{number % 1_000_000:06d}{'ABCD'[number % 4]}"
    return f"000-{number % 99 + 1:02d}-{number % 9999 + 1:04d}"


def _secret(value: str, number: int) -> str:
    return f"example-{number % 16**10:010x}"


def _birth(value: str, number: int) -> str:
    """In the form it was written; the name of a month stays."""
    short = str(number % 12 + 1)
    parts = iter((short, str(number // 12 % 12 + 1)))
    groups = re.findall(r"[0-9]+", value)
    year = next((place for place, group in enumerate(groups) if len(group) == 4), len(groups) - 1)
    replaced = (
        f"190{number % 10}" if place == year else next(parts, short).rjust(len(group), "0")
        for place, group in enumerate(groups)
    )
    return re.sub(r"'?[0-9]+", lambda match: next(replaced), value)


def _street(value: str, number: int) -> str:
    return f"{number % 9998 + 1} Example Street"


def _url(value: str, number: int) -> str:
    return f"https://example.com/{number % 10**6:06d}"


def _organisation(value: str, number: int) -> str:
    return f"{_NAMES[number % len(_NAMES)]} Example Company"


def _location(value: str, number: int) -> str:
    return f"{_NAMES[number % len(_NAMES)]} Example Town"


def _name(value: str, number: int) -> str:
    name = _NAMES[number % len(_NAMES)]
    return name.upper() if len(value) > 1 and value.isupper() else name.lower() if value.islower() else name


_MAKERS: Mapping[str, Callable[[str, int], str]] = {
    "email": _email,
    "phone": _phone,
    "card": _card,
    "iban": _iban,
    "ip": _ip,
    "national_id": _national_id,
    "api_key": _secret,
    "url_token": _secret,
    "date_of_birth": _birth,
    "street_address": _street,
    "url": _url,
    "name": _name,
    "organisation": _organisation,
    "location": _location,
}
_NAMED = "|".join(_NAMES)
# Without regard to what stands around: a stand-in may have come to stand right beside something else.
_KNOWN = re.compile(
    r"(?:\+?1[ .-])?[2-9][0-9]{2}[ .-]555-01[0-9]{2}|4000([ \u00a0-]?)0000\1[0-9]{4}\1[0-9]{4}"
    r"|GB[0-9]{2}([ \u00a0-]?)TEST(?:\2[0-9]){14}|GB[0-9]{2}([ \u00a0-])TEST(?:\3[0-9]{4}){3}\3[0-9]{2}"
    r"|(?:192\.0\.2|198\.51\.100|203\.0\.113)\.[0-9]{1,3}|2001:db8::[0-9a-f]{1,4}|000-[0-9]{2}-[0-9]{4}"
    r"|QQ[0-9]{6}[ABCD]"
    r"|example-[0-9a-f]{10}|[0-9]{1,6} Example Street"
    r"|https?://(?:www\.)?example\.(?:com|net|org)(?:/[\w./-]*)?(?![\w])"
    rf"|(?<![\w])(?:{_NAMED})(?: Example (?:Company|Town))?(?![\w])",
    re.IGNORECASE,
)
_HOST = re.compile(r"(?:@|%40)example\.(?:com|net|org)\Z", re.IGNORECASE)
_INVENTED_YEAR = re.compile(r"(?<![0-9])190[0-9](?![0-9])")


def stand_in(kind: str, value: str, number: int) -> str:
    """An invented value of this kind, in the form of the real one where that tells nothing.

    Args:
        number: another one gives, mostly, another value.
    """
    return _MAKERS[kind](value, number)


def known_stand_ins(text: str) -> list[tuple[int, int]]:
    """Where in the text stand what `stand_in` gives, and what else is from the same ranges."""
    found = [match.span() for match in _KNOWN.finditer(text)]
    if "example." in text.casefold():
        emails = ((span.start, span.end) for span in find_emails(text))
        found += [(start, end) for start, end in emails if _HOST.search(text, start, end)]
    if _INVENTED_YEAR.search(text):
        found += [match.span() for match in DATE.finditer(text) if _INVENTED_YEAR.search(match.group())]
    return found


def same_value(value: str) -> str:
    """Equal for two ways to write one value."""
    letters = any(map(str.isalpha, value))
    return re.sub(r"[\W_]+", "", value).casefold() if letters else only_digits(value)
