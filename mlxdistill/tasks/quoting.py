"""How a model is asked to quote the personal data of a text, and how the quotes are read.

It is asked for the words themselves, not for places: models count characters badly, and what they quote wrongly is not
found in the text and does no harm.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_QUOTES = 64
# What a teacher is asked for where nothing else is wanted: patterns know the rest better.
QUOTED_KINDS = ("name", "organisation", "location", "street_address", "phone", "email", "national_id", "date_of_birth")

_DESCRIPTIONS: Mapping[str, str] = {
    "name": "of a person",
    "organisation": "a company, an authority, a club",
    "location": "a town, a region, a country",
    "street_address": "of a house or a flat",
    "phone": "a phone number",
    "email": "an e-mail address",
    "card": "a number of a payment card",
    "iban": "a bank account",
    "national_id": "a number that a state gives to a person, a passport, a driving licence",
    "date_of_birth": "the day a person was born",
    "ip": "an IP address",
    "api_key": "a password, a key",
    "url_token": "a secret in a link",
    "url": "a link",
}


@dataclass(frozen=True, slots=True)
class Quote:
    """Words that are said to stand in a text, and what kind of thing they are."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class QuoteForm:
    """The form of an answer: a JSON object with a list of quotes, each of one of the kinds."""

    kinds: tuple[str, ...]

    @property
    def head(self) -> str:
        """What stands before the text."""
        listed = "\n".join(f"- {kind}: {_DESCRIPTIONS[kind]}" for kind in self.kinds)
        return f"Find the personal data in a text. The kinds:\n{listed}\n\nText:\n"

    @property
    def tail(self) -> str:
        """What stands behind it."""
        return (
            "\n\nQuote everything personal in the text, exactly as it is written there, each piece by itself. Answer "
            "with a"
            ' JSON object: {"found": [{"kind": "<one of the kinds>", "text": "<quote>"}]}. Where there is nothing:'
            ' {"found": []}'
        )

    @property
    def schema(self) -> dict[str, Any]:
        quote = {
            "type": "object",
            "properties": {"kind": {"enum": list(self.kinds)}, "text": {"type": "string"}},
            "required": ["kind", "text"],
        }
        found = {"type": "array", "items": quote, "maxItems": MOST_QUOTES}
        return {"type": "object", "properties": {"found": found}, "required": ["found"]}

    def shortest(self, text: str) -> str:
        return '{"found": []}'

    def is_complete(self, text: str) -> bool:
        try:
            return isinstance(json.loads(text), dict)
        except (ValueError, RecursionError):
            return False

    def read(self, answer: str) -> Iterator[Quote]:
        """The quotes of an answer, those before its end too where it was cut off."""
        for written in _OBJECT.findall(answer):
            try:
                value = json.loads(written)
            except ValueError:
                continue
            match value:
                case {"kind": str(kind), "text": str(text)} if kind in self.kinds and text.strip():
                    yield Quote(kind, text.strip())


class QuoteTask:
    """What a generator takes for a task: it only wants to know whether an answer is whole."""

    def read(self, text: str, form: QuoteForm) -> str | None:
        return "" if form.is_complete(text) else None


def places_of(text: str, quotes: Sequence[Quote]) -> Iterator[tuple[int, int, str]]:
    """Start, end and kind of everything in the text that was quoted, wherever it stands as a word of its own, whatever
    white space is between its words."""
    for quote in dict.fromkeys(quotes):
        words = r"\s+".join(map(re.escape, quote.text.split()))
        for match in re.finditer(rf"(?<!{_LETTER}){words}(?!{_LETTER})", text):
            yield match.start(), match.end(), quote.kind


# Thai and Lao, Burmese, Khmer, Japanese and Chinese, Korean: words stand side by side, or with a particle at their end.
_RUNNING = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_LETTER = rf"[^\W{_RUNNING}]"
_OBJECT = re.compile(r'\{ ?"kind": ?"[^"\\]*", ?"text": ?"(?:[^"\\]|\\.)*" ?\}')
