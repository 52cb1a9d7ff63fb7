"""Dates of birth: a day, month and year near a word of birth, in several languages."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlxdistill.data.redaction.context import is_said
from mlxdistill.data.redaction.digits import has_digits
from mlxdistill.data.redaction.spans import Span

_MONTHS = (
    "jan(?:uary|uar|vier|eiro)?|enero|gennaio|januari|feb(?:ruary|ruar|ruari)?|février|fevrier|fevereiro|febrero|febbraio"
    "|mar(?:ch|s|zo|ço)?|märz|maart|apr(?:il|ile)?|avril|abril|may|mai|mayo|maggio|maio|mei|maj|jun(?:e|i|ho|io)?|juin|giugno"
    "|jul(?:y|i|ho|io)?|juillet|luglio|aug(?:ust|usti|ustus)?|août|aout|agosto|sep(?:t|tember|tembre|tiembre)?|setembro"
    "|settembre|o[ck]t(?:ober|obre|ubre)?|outubro|ottobre|nov(?:ember|embre|iembre|embro)?|de[cz](?:ember|embre)?|dicembre"
    "|décembre|diciembre|dezembro"
)
_DAY, _MONTH, _YEAR = r"(?:0?[1-9]|[12][0-9]|3[01])", r"(?:0?[1-9]|1[0-2])", r"(?:(?:1[89]|20)[0-9]{2}|'?[0-9]{2})"
DATE = re.compile(
    rf"(?<![\w])(?<![0-9][./-])(?:"
    rf"{_DAY}(?P<between>[./-]) ?{_DAY}(?P=between) ?{_YEAR}"
    rf"|{_DAY} {_MONTH} (?:1[89]|20)[0-9]{{2}}"
    rf"|(?:1[89]|20)[0-9]{{2}}(?P<joint>[./-]){_MONTH}(?P=joint){_DAY}"
    rf"|(?:1[89]|20)[0-9]{{2}}年{_MONTH}月{_DAY}日"
    rf"|{_DAY}(?:st|nd|rd|th|er|º|°|\.)?[ -](?:of |de |di |d')?(?:{_MONTHS})\.?,?[ -](?:de |del )?{_YEAR}"
    rf"|(?:{_MONTHS})\.? {_DAY}(?:st|nd|rd|th)?,? {_YEAR}"
    rf")(?![\w]|[./-][0-9])",
    re.IGNORECASE,
)
_WORDS = re.compile(
    r"\bborn\b|\bbirth|\bd\.?o\.?b\b|\bgeb(?:oren|\.|urt)|\bnaissance\b|\bnée?\b|\bnacid[oa]\b|\bnacimiento\b|\bnacim\b|\bnat[oa]\b"
    r"|\bnascita\b|\bgeboorte|\bnascid[oa]\b|\bnascimento\b|\bfødt\b|\bfødsels|\bfödd\b|\bfödelse|\bsyntynyt\b|\bsyntymä"
    r"|\burodz|\bur\. |\bnarozen|\bszül|\bdoğum|\bрод(?:ился|илась|ения|ж)|\bнарод|生まれ|生年月日|出生|\bgebdat\b",
    re.IGNORECASE,
)


def find_births(text: str) -> Iterator[Span]:
    if not has_digits(text, 4) or not _WORDS.search(text):
        return
    for match in DATE.finditer(text):
        if is_said(_WORDS, text, match.start(), match.end(), before=60, behind=20):
            yield Span(match.start(), match.end(), "date_of_birth")
