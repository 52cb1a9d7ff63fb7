"""Numbers that states give to people: of each the form, the checksum where it has one, and the words that name it.

A form that many other numbers have (nine digits) counts only near such a word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from mlxdistill.data.redaction.context import is_said
from mlxdistill.data.redaction.digits import has_digits, only_digits, passes_luhn
from mlxdistill.data.redaction.spans import Span

FEWEST_DIGITS = 5  # an Italian code may have letters for some of its seven


@dataclass(frozen=True, slots=True)
class NationalId:
    """One kind of number.

    Attributes:
        form: how it is written.
        is_valid: given what was written, without separators and in capitals.
        words: one of them must stand near; None: the form and the checksum are enough.
    """

    form: re.Pattern[str]
    is_valid: Callable[[str], bool]
    words: re.Pattern[str] | None = None


def find_national_ids(text: str) -> Iterator[Span]:
    if not has_digits(text, FEWEST_DIGITS):
        return
    for each in NATIONAL_IDS:
        for match in each.form.finditer(text):
            if each.words is not None and not is_said(each.words, text, *match.span(), behind=20):
                continue
            if each.is_valid(_compact(match.group())):
                yield Span(match.start(), match.end(), "national_id")


def _compact(written: str) -> str:
    return re.sub(r"[^A-Za-z0-9+]", "", written).upper()


def _weighted(digits: str, weights: Sequence[int]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def _us(digits: str) -> bool:
    """Social security number; from 900 on: a taxpayer's number. Area 000 is given to nobody."""
    return digits[:3] not in ("000", "666") and digits[3:5] != "00" and digits[5:] != "0000"


def _uk(number: str) -> bool:
    """National insurance number: no checksum; some prefixes are never given."""
    return number[:2] not in ("BG", "GB", "NK", "KN", "TN", "NT", "ZZ")


def _fr(number: str) -> bool:
    """Numéro de sécurité sociale: the key is 97 less the rest by 97; 2A and 2B, Corsica, count as 19 and 18."""
    digits = number.replace("2A", "19", 1) if number[5:7] == "2A" else number.replace("2B", "18", 1)
    return digits.isdecimal() and 97 - int(digits[:13]) % 97 == int(digits[13:])


def _es(number: str) -> bool:
    """DNI and NIE: the letter is the rest by 23."""
    digits = str("XYZ".find(number[0])) + number[1:-1] if number[0] in "XYZ" else number[:-1]
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(digits) % 23] == number[-1]


def _de(digits: str) -> bool:
    """Steuerliche Identifikationsnummer: of the first ten digits one comes twice or thrice; ISO 7064 mod 11,10."""
    if digits[0] == "0" or sorted(map(digits[:10].count, set(digits[:10])))[-2:] not in ([1, 2], [1, 3]):
        return False
    product = 10
    for digit in digits[:10]:
        product = ((int(digit) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(digits[10])


_AT_ODD_PLACES = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21)  # of 0 to 9, and of A to J
_ODD_VALUES = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (*_AT_ODD_PLACES, *_AT_ODD_PLACES, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
        strict=True,
    )
)


def _it(code: str) -> bool:
    """Codice fiscale: characters at odd places count by a table, the others by their place in the alphabet."""
    even = sum(int(character, 36) - 10 * character.isalpha() for character in code[1:15:2])
    return chr((sum(_ODD_VALUES[character] for character in code[0:15:2]) + even) % 26 + ord("A")) == code[15]


def _nl(digits: str) -> bool:
    """Burgerservicenummer: the eleven test."""
    return int(digits) > 0 and _weighted(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def _be(digits: str) -> bool:
    """Rijksregisternummer: 97 less the rest by 97, with a 2 before it for those born since 2000."""
    key = int(digits[9:])
    return key in (97 - int(digits[:9]) % 97, 97 - int("2" + digits[:9]) % 97) and digits[2:4] <= "12"


def _pl(digits: str) -> bool:
    """PESEL, whose month says the century."""
    check = -_weighted(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10 == int(digits[10])
    return check and 1 <= int(digits[2:4]) % 20 <= 12 and 1 <= int(digits[4:6]) <= 31


def _se(digits: str) -> bool:
    """Personnummer; 60 is added to the day of a coordination number."""
    short = digits.replace("+", "")[-10:]
    return passes_luhn(short) and 1 <= int(short[2:4]) <= 12 and 1 <= int(short[4:6]) % 60 <= 31


def _fi(number: str) -> bool:
    """Henkilötunnus: the rest by 31 as a letter. The century's sign is not there any more, or is a letter."""
    digits = only_digits(number[:6]) + number[-4:-1]
    return digits.isdecimal() and "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(digits) % 31] == number[-1]


def _ch(digits: str) -> bool:
    """AHV-Nummer: the check digit of article numbers (EAN-13)."""
    return -_weighted(digits, (1, 3) * 6) % 10 == int(digits[12])


def _br(digits: str) -> bool:
    """CPF: two check digits by 11."""
    first, second = (_weighted(digits, range(count, 1, -1)) * 10 % 11 % 10 for count in (10, 11))
    return len(set(digits)) > 1 and digits[9:] == f"{first}{second}"


def _pt(digits: str) -> bool:
    """NIF: by 11."""
    rest = _weighted(digits, range(9, 1, -1)) % 11
    return int(digits[8]) == (0 if rest < 2 else 11 - rest)


def _au(digits: str) -> bool:
    """Tax file number: by 11."""
    return _weighted(digits, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0


def _cn(number: str) -> bool:
    """Resident identity number: ISO 7064 mod 11-2, and a date."""
    check = "10X98765432"[_weighted(number, (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)) % 11]
    try:
        date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    return check == number[17]


_TIMES = ("0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
          "5987604321", "6598710432", "7659821043", "8765932104", "9876543210")  # fmt: skip
_TURNS = (
    "0123456789",
    "1576283094",
    "5803796142",
    "8916043527",
    "9453126870",
    "4286573901",
    "2793806415",
    "7046913258",
)


def _in(digits: str) -> bool:
    """Aadhaar: Verhoeff's checksum, in the group of a pentagon's turns."""
    check = 0
    for place, digit in enumerate(reversed(digits)):
        check = int(_TIMES[check][int(_TURNS[place % 8][int(digit)])])
    return check == 0 and digits[0] not in "01"


def _form(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w])(?<![0-9][.,/+-])(?:{pattern})(?![\w]|[.,/-]?[0-9])")


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![^\W_])(?:{pattern})(?![^\W_])", re.IGNORECASE)


_TAX = "nif|contribuinte|número de identificação fiscal"
NATIONAL_IDS = (
    NationalId(_form(r"[0-9]{3}-[0-9]{2}-[0-9]{4}|[0-9]{3}[ \u00a0][0-9]{2}[ \u00a0][0-9]{4}"), _us),
    NationalId(_form(r"[0-9]{9}"), _us, _words(r"ssn|itin|tin|social security(?: (?:number|no\.?|#))?")),
    NationalId(_form(r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z](?: ?[0-9]{2}){3} ?[A-D]"), _uk),
    NationalId(_form(r"(?i:[a-ceghj-pr-tw-z][a-ceghj-npr-tw-z](?: ?[0-9]{2}){3} ?[a-d])"), _uk,
               _words(r"nino|ni (?:number|no\.?)|national insurance(?: (?:number|no\.?))?")),
    NationalId(_form(r"[12] ?[0-9]{2} ?[0-9]{2} ?(?:[0-9]{2}|2[AB]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}"), _fr),
    NationalId(_form(r"(?i:(?:[xyz][- ]?[0-9]{7}|[0-9]{8}|[0-9]{2}\.[0-9]{3}\.[0-9]{3})[- ]?[a-hj-np-tv-z])"), _es),
    NationalId(_form(r"[0-9]{11}|[0-9]{2}(?: [0-9]{3}){3}"), _de),
    NationalId(_form(r"(?i:[a-z]{6}[0-9lmnp-v]{2}[a-ehlmprst][0-9lmnp-v]{2}[a-z][0-9lmnp-v]{3}[a-z])"), _it),
    NationalId(_form(r"[0-9]{9}|[0-9]{4}[. ][0-9]{2}[. ][0-9]{3}"), _nl,
               _words(r"bsn|burgerservicenummer|sofi-?nummer")),
    NationalId(_form(r"[0-9]{2}\.?[0-9]{2}\.?[0-9]{2}[- ]?[0-9]{3}[. ]?[0-9]{2}"), _be),
    NationalId(_form(r"[0-9]{11}"), _pl),
    NationalId(_form(r"(?:19|20)?[0-9]{6}[-+][0-9]{4}"), _se),
    NationalId(_form(r"[0-3][0-9][01][0-9]{3}[-+A-FU-Y][0-9]{3}[0-9A-FHJ-NPR-Y]"), _fi),
    NationalId(_form(r"756[. ]?[0-9]{4}[. ]?[0-9]{4}[. ]?[0-9]{2}"), _ch),
    NationalId(_form(r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}"), _br),
    NationalId(_form(r"[0-9]{11}"), _br, _words("cpf")),
    NationalId(_form(r"[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{3}"), passes_luhn, _words(r"sin|social insurance(?: number)?")),
    NationalId(_form(r"[1-9][0-9]{2} ?[0-9]{3} ?[0-9]{3}"), _pt, _words(_TAX)),
    NationalId(_form(r"[0-9]{3} ?[0-9]{3} ?[0-9]{3}"), _au, _words(r"tfn|tax file (?:number|no\.?)")),
    NationalId(_form(r"[1-9][0-9]{16}[0-9Xx]"), _cn),
    NationalId(_form(r"[2-9][0-9]{3} [0-9]{4} [0-9]{4}"), _in),
    NationalId(_form(r"[2-9][0-9]{11}"), _in, _words(r"aadhaar|aadhar|uid")),
)  # fmt: skip
