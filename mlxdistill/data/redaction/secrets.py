"""Keys that open something: by the beginnings that their issuers gave them, and by what stands before them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlxdistill.data.redaction.spans import Span

_KNOWN = re.compile(
    r"(?<![A-Za-z0-9_])(?:"
    r"sk-[A-Za-z0-9_-]{20,200}"  # OpenAI, Anthropic
    r"|(?:sk|pk|rk|whsec)_(?:(?:live|test)_)?[A-Za-z0-9]{16,200}"  # Stripe
    r"|gh[pousr]_[A-Za-z0-9]{30,255}|github_pat_[A-Za-z0-9_]{22,255}"
    r"|glpat-[A-Za-z0-9_-]{20,64}"  # GitLab
    r"|(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}"  # AWS
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,250}|xapp-[A-Za-z0-9-]{10,250}"  # Slack
    r"|AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,300}|GOCSPX-[A-Za-z0-9_-]{20,64}"  # Google
    r"|hf_[A-Za-z0-9]{30,64}|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{32,300}|dop_v1_[a-f0-9]{64}"
    r"|SG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,64}|key-[a-f0-9]{32}|EAA[A-Za-z0-9]{60,300}"
    r"|eyJ[A-Za-z0-9_-]{8,2000}\.[A-Za-z0-9_-]{8,4000}(?:\.[A-Za-z0-9_-]{0,2000})?"  # JWT
    r")(?![A-Za-z0-9])"
)
_NAMED = re.compile(
    r"(?<![A-Za-z])(?P<name>api[_ -]?key|access[_ -]?key(?:[_ -]?id)?|secret(?:[_ -]?(?:access[_ -]?)?key)?"
    r"|client[_ -]?secret"
    r"|private[_ -]?key|(?:access|auth|refresh|bearer|api|id)?[_ -]?token|key|auth|authorization|bearer"
    r"|pass(?:word|wd|phrase|wort)?|pwd|kennwort|mot de passe|contraseña)"
    r"[\"']?(?:[ \t]{0,3}(?:=>|[:=])[ \t]{0,3}|(?<=earer)[ \t]|[ \t]is[ \t])(?:bearer |basic )?[\"']?"
    r"(?P<value>[^\s\"'<>,;&()\[\]{}]{6,512})",
    re.IGNORECASE,
)
_PASSWORD = re.compile(r"pass|pwd|kennwort|contra", re.IGNORECASE)
_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_BODY = re.compile(r"[A-Za-z0-9+/=\s\\:,-]*")


def find_api_keys(text: str) -> Iterator[Span]:
    for match in _KNOWN.finditer(text):
        yield Span(match.start(), match.end(), "api_key")
    for match in _NAMED.finditer(text):
        value = match["value"].rstrip(".?:")
        is_password = _PASSWORD.match(match["name"]) and _is_mixed(value)
        if looks_random(value) or is_password:
            yield Span(match.start("value"), match.start("value") + len(value), "api_key")
    yield from _private_keys(text)


def _private_keys(text: str) -> Iterator[Span]:
    """Whole blocks; one whose end is cut off goes as far as what can be a key."""
    end = 0
    while (begin := _PEM.search(text, end)) is not None:
        body = _PEM_BODY.match(text, begin.end())
        assert body is not None  # it may be empty
        closing = _PEM_END.match(text, text.find("-----END", begin.end()))
        end = closing.end() if closing and text.find("-----BEGIN", begin.end(), closing.start()) < 0 else body.end()
        yield Span(begin.start(), end, "api_key")


def looks_random(value: str) -> bool:
    """Whether nobody would write this by hand: 16 characters or more, of which many differ, letters among digits."""
    letters = sum(map(str.isalpha, value))
    digits = sum(map(str.isdecimal, value))
    if len(value) < 16 or letters + digits < 0.8 * len(value) or not letters or digits < max(2, len(value) // 16):
        return False
    return len(set(value)) >= min(10, len(value) // 2)


def _is_mixed(value: str) -> bool:
    return any(map(str.isalpha, value)) and not value.isalpha()
