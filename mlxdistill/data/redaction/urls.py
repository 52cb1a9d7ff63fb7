"""Addresses of pages, and the secrets in them: a password before the host, tokens and signatures in the query."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlxdistill.data.redaction.secrets import looks_random
from mlxdistill.data.redaction.spans import Span

_URL = re.compile(r"(?<![A-Za-z0-9+.-])(?:[a-z][a-z0-9+.-]{1,20}://|www\.)[^\s<>\"'`\[\]{}|\\^]{2,}", re.IGNORECASE)
_USER = re.compile(r"[^/?#@\s]{0,200}:([^/?#\s]{1,200})@")
_PARAMETER = re.compile(r"[?&#;]([\w.~-]{1,64})=([^&#;\s]{1,4096})")
_SECRET_NAMES = re.compile(
    r"(?:\A|[_.-])(?:\w*token|api-?key|key|secret|sig|signature|hmac|pass|passw(?:or)?d|pwd|auth|authorization|session|"
    r"session-?id|sid|phpsessid|jsessionid|jwt|code|credential|otp|ticket|accesskey(?:id)?|apikey|sessionid)\Z",
    re.IGNORECASE,
)
_ESCAPED = re.compile(r"%[0-9A-Fa-f]{2}")
_CLOSING = ".,;:!?)'\"*"


def find_urls(text: str) -> Iterator[Span]:
    for start, end in _urls(text):
        yield Span(start, end, "url")


def find_url_tokens(text: str) -> Iterator[Span]:
    """The secret alone: the rest of the URL stays."""
    for start, end in _urls(text):
        host = text.find("//", start, end)
        user = _USER.match(text, host + 2, end) if host >= 0 else None
        if user is not None:
            yield Span(user.start(1), user.end(1), "url_token")
        for parameter in _PARAMETER.finditer(text, start, end):
            name, value = parameter.groups()
            if (_SECRET_NAMES.search(name) and len(value) >= 6) or looks_random(_ESCAPED.sub("", value)):
                yield Span(parameter.start(2), parameter.end(2), "url_token")


def _urls(text: str) -> Iterator[tuple[int, int]]:
    for match in _URL.finditer(text):
        yield match.start(), match.start() + len(match.group().rstrip(_CLOSING))
