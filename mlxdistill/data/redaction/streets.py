"""Addresses of houses by their pattern, as several countries write them.

Every address has a number in it, so each number is looked at with what stands before and behind it. A street is known
by its kind (Road, rue, -straße, Calle), or by words such as `lives at` before it. What follows belongs to the address
where it looks like it: a flat, a postcode and its town.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlxdistill.data.redaction.context import is_said
from mlxdistill.data.redaction.spans import Span

_JOINT = re.compile(r",? ?(?:n[.º°]{1,2} ?)?\Z")
_IS_NAME_END = re.compile(r"[^\W\d_]\.?\Z")
WINDOW = 70  # characters before a number in which a street's name may begin

_WORD = r"[^\W\d_][\w'’.-]{0,30}"
_NUMBER = re.compile(
    r"(?<![\w.,:/#$€£%&+=-])(?<![\w.,:/#$€£%&+=-] [.,:/-])[0-9]{1,5}(?:[ -]?[A-Za-z]\b|[-/][0-9]{1,4}\b)?(?![\w%:]"
    r"|[.,][0-9])"
)
_YEAR = re.compile(r"(?:19|20)[0-9]{2}")

# Behind a number: Main Street, E 5th Ave. Words of the second list mean much else: there all must be capitals.
_PLAIN = r"street|road|rd|avenue|ave|lane|boulevard|blvd|highway|hwy|crescent|parkway|pkwy|turnpike|stravenue"
_OTHER = (
    r"str?|av|ln|drive|dr|court|ct|close|cres|place|pl|square|squares|sq|terrace|ter|way|trail|trl|circle|cir|alley"
    r"|mews|row|grove"
    r"|gardens|esplanade|parade|quay|walk|heights|plaza|points?|pike|route|loop|crossing|crossroads?|ridge|hill"
    r"|views?|springs?"
    r"|spurs?|common|vista|bypass|extensions?|prairie|isle|fort|forges?|pass|freeway|expressway|motorway|mall|manor"
    r"|shores?|bay"
)
_ENGLISH = re.compile(
    rf",? (?P<name>(?:(?:{_WORD}|[0-9]{{1,3}}(?:st|nd|rd|th)) ){{1,4}}?)(?:(?P<plain>{_PLAIN})|"
    rf"(?P<other>{_OTHER}))\b\.?"
    r"(?: (?:north|south|east|west|[ns][ew]?|[ew])\b)?",
    re.IGNORECASE,
)
_FRENCH = re.compile(
    r"(?: ?(?:bis|ter))?,? (?:rue|avenue|av\.|boulevard|bd|place|allée|chemin|impasse|quai|cours|route|square|passage"
    r"|faubourg)"
    rf" (?:(?:de|du|des|la|le|les|l'|d') ?){{0,2}}(?P<name>{_WORD}(?:[ -]{_WORD}){{0,3}})",
    re.IGNORECASE,
)
# Before a number: Hauptstraße, Vesturgata, Eötvös út; then Calle Mayor, Via Garibaldi, rue de la Paix.
_ENDINGS = (
    r"stra(?:ß|ss)e|str\.|gasse|allee|platz|weg|damm|ufer|chaussee|steig|pfad|straat|laan|plein|gracht|kade|singel"
    r"|dreef|dijk|steenweg"
    r"|gatan|gata|gate|vägen|gränd|stigen|torget|gade|vej(?:en)?|stræde|plads|braut|stræti|vei(?:en)?|vegen|terrasse"
    r"|bakken|lia"
    r"|katu|tie|kuja|polku|tänav|puiestee|vangur|gatu|toften|parken|graben|hof"
)
_WORDS_BEHIND = (
    r"stra(?:ß|ss)e|str\.|gasse|allee|platz|weg|ring|damm|ufer|straat|laan|plein|gata|tänav|tee|maantee|utca|útja|út"
    r"|u\.|tér|körút"
    r"|ulice|náměstí|třída|vej|allé|kapu|str|st\.?|street|road"
)
_GERMANIC = re.compile(
    rf"(?<![\w])(?:{_WORD}[ -]){{0,3}}?(?P<name>[^\W\d_]{{2,40}}?(?:{_ENDINGS})|{_WORD} (?:{_WORDS_BEHIND}))\Z",
    re.IGNORECASE,
)
_ROMANCE = re.compile(
    r"(?<![\w])(?:(?:rue|avenue|boulevard|bd|allée|chemin|impasse|quai|calle|avenida|plaza|paseo|camino|camiño|carrer"
    r"|carretera"
    r"|travesía|rúa|via|viale|piazza|piazzale|corso|vicolo|largo|strada|rua|praça|travessa|alameda|estrada|ulica"
    r"|λεωφόρος) "
    r"|(?:c/|av\.|avda?\.|ctra\.|ul\.|al\.|os\.|pza\.) ?)"
    rf"(?:(?:de|del|della|dei|di|da|do|dos|das|du|des|la|le|les|los|las|el) ){{0,2}}(?P<name>{_WORD}"
    rf"(?:[ -]{_WORD}){{0,4}})\Z",
    re.IGNORECASE,
)
_SAID = re.compile(
    r"\b(?:address|adress?e|adres|anschrift|direcci[óo]n|domicili[oeé]|indirizzo|endere[çc]o|osoite|located (?:at|in"
    r"|on)|lives? (?:at|in)"
    r"|living at|resid(?:es?|ing) at|wohn(?:e|t|haft)|deliver(?:ed)? to|ship(?:ped)? to|sen[dt] (?:it )?to|return to"
    r"|meet (?:you|me) at"
    r"|side of|offices? (?:are|is)|restaurant is)\b",
    re.IGNORECASE,
)
_NAME = re.compile(rf"(?<![\w])(?P<name>{_WORD}(?: {_WORD}){{0,3}})\Z")
_NAME_BEHIND = re.compile(rf",? (?P<name>{_WORD}(?: {_WORD}){{1,3}})")

_FLAT = (
    r"(?:,?[ \n]{1,2}\(?(?:apt\.?|apartment|suite|ste\.?|unit|flat|room|floor|appt?\.?|piso|int\.?|whg\.?|#)"
    r" ?#? ?[0-9][\w-]{0,6}\)?)"
)
_TOWN = rf"(?:\(?{_WORD}\)?(?: \(?{_WORD}\)?){{0,3}}|[0-9]{{1,2}})"
_ZIP = r"(?:[A-Z]{1,2}[ -])?[0-9]{4,5}(?:-[0-9]{3,4})?"
_BEHIND = re.compile(
    rf"\.?{_FLAT}?(?:"
    rf",?[ \n]{{1,2}}(?:{_ZIP}|[0-9]{{3}} [0-9]{{2}}|[0-9]{{4}} [A-Z]{{2}}) {_WORD}(?:[ -]{_WORD}){{0,2}}"
    rf"|(?:\s?[,\n]\s{{0,2}}{_TOWN}){{1,4}}[\s,]{{1,3}}{_ZIP}(?![\w])"
    rf"|(?:,\s{{0,2}}{_TOWN}){{0,2}}[,\s]{{1,3}}[A-Z]{{1,2}}[0-9][0-9A-Z]? ?[0-9][A-Z]{{2}}(?![\w])"
    r")?",
    re.IGNORECASE,
)
_BOXES = re.compile(
    r"(?<![\w])(?:p\.? ?o\.? ?box|postfach|apartado(?: de correos)?|casella postale|postbus|boîte postale"
    r"|caixa postal) [0-9]{1,7}\b"
    r"|(?<![\w])(?:(?:psc|cmr|unit) [0-9]{3,5},? box [0-9]{3,5}|us(?:ns|s|cgc|nv) [\w .]{2,30})\s{1,2}(?:apo|fpo"
    r"|dpo) a[aep] [0-9]{5}\b"
    r"|(?<![\w])(?:apt\.?|apartment|suite|appt\.) #?[0-9]{1,5}[a-z]?(?![\w])",
    re.IGNORECASE,
)
_COMMON = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be been but by can did do does for from had has have he her his how i if in into is it "
        "its like many me more most my no not of off on or our out over she so some than that the their them then "
        "there these they this those to up us was we were what when where which who will with would year years you "
        "your days day times people per miles blocks meters feet minutes hours called another thank same own first "
        "last next old new way",
    )
)


def find_streets(text: str) -> Iterator[Span]:
    for box in _BOXES.finditer(text):
        yield Span(box.start(), box.end(), "street_address")
    is_lower = text == text.lower()
    done = 0
    for number in _NUMBER.finditer(text):
        if number.start() < done:
            continue
        start, end = _street(text, number, done, is_lower=is_lower)
        if end > start:
            behind = _BEHIND.match(text, end)
            done = behind.end() if behind else end
            yield Span(start, done, "street_address")


def _street(text: str, number: re.Match[str], done: int, *, is_lower: bool) -> tuple[int, int]:
    """From where to where the street and its number go; an empty part where there is no street."""
    first, last = number.span()
    for pattern in (_ENGLISH, _FRENCH, _NAME_BEHIND):
        found = pattern.match(text, last)
        if (
            found
            and _is_name(found, is_lower=is_lower and pattern is not _FRENCH)
            and (pattern is not _NAME_BEHIND or _is_said(text, first))
        ):
            return _with_number_before(text, first, done), found.end()
    before = text[max(done, first - WINDOW) : first]
    stripped = _JOINT.sub("", before)
    if len(stripped) == len(before) or not _IS_NAME_END.search(stripped) or _YEAR.fullmatch(number.group()):
        return first, first
    for pattern in (_GERMANIC, _ROMANCE, _NAME):
        found = pattern.search(stripped)
        if found and _is_name(found, is_lower=is_lower) and (pattern is not _NAME or _is_said(text, first)):
            start = found.start() if pattern is _ROMANCE else _first_capital(found)
            return _with_number_before(text, first - len(before) + start, done), last
    return first, first


def _is_said(text: str, place: int) -> bool:
    return is_said(_SAID, text, place, place, before=45)


def _first_capital(found: re.Match[str]) -> int:
    """Where the name begins, with the words in capitals before it."""
    start = found.start("name") if found.re is _GERMANIC else found.end() - len(found["name"].split()[-1])
    for word in reversed(found.string[found.start() : start].split()):
        if not word[0].isupper() or word.casefold() in _COMMON:
            break
        start = found.string.rindex(word, 0, start)
    return start


def _is_name(found: re.Match[str], *, is_lower: bool) -> bool:
    """Whether the words can be a street's name: capitals, or, in a text without any, no word that all texts are "
    "full of."""
    words = found["name"].split()
    kind = found.groupdict().get("other")
    if kind and not (kind[0].isupper() and all(word[0].isupper() or word[0].isdecimal() for word in words)):
        return False
    if any(word.casefold() in _COMMON and (len(word) > 2 or not word.isupper()) for word in words[:1] + words[-1:]):
        return False
    if found.re in (_NAME, _NAME_BEHIND) and not is_lower:  # nothing but a word before it says that this is a street
        return words[0][0].isupper() and words[-1][0].isupper()
    if is_lower or found.groupdict().get("plain"):
        return not any(word.casefold() in _COMMON for word in words)
    return words[0][0].isupper() or words[-1][0].isupper()


def _with_number_before(text: str, start: int, done: int) -> int:
    """Where a number before it begins, as in `450 Præstevænget 15`."""
    before = re.search(r"(?<![\w.,:/-])[0-9]{1,5} \Z", text[max(done, start - 8) : start])
    return start - len(before.group()) if before else start
