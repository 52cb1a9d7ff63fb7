"""E-mail addresses, also where a form or a URL has written the @ as `%40`, or a person as `(at)`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlxdistill.data.redaction.spans import Span

_LOCAL = r"\w.!#$&'*+/=?^`{|}~-"
_DOMAIN = r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}(?:xn--[\w-]{1,59}|[^\W\d_]{2,63})(?![\w-])"
_AT = re.compile(rf"(?:@|＠|%40| ?[(\[]at[)\]] ?)(?={_DOMAIN})", re.IGNORECASE)
_BEFORE = re.compile(rf"(?:[{_LOCAL}]|%(?!40)){{1,64}}\Z|\"[^\"\n]{{1,64}}\"\Z")
_BEHIND = re.compile(_DOMAIN, re.IGNORECASE)
_IS_PASSWORD = re.compile(r"://[^\s/@]{0,90}:\Z")  # of a URL, and what follows the @ is its host
_EDGES = ".!#$&'*/=?^`{|}~-"


def find_emails(text: str) -> Iterator[Span]:
    """Each is found from its @ outwards, so that a text without one costs next to nothing."""
    for at in _AT.finditer(text):
        local = _BEFORE.search(text, max(0, at.start() - 66), at.start())
        domain = _BEHIND.match(text, at.end())
        if local is None or domain is None:
            continue
        name = local.group()
        for separator in "=/?&|":  # of a query or a path that the address stands in
            name = name.rpartition(separator)[2]
        name = name.lstrip(_EDGES)
        start = at.start() - len(name)
        if name and not _IS_PASSWORD.search(text, max(0, start - 100), start):
            yield Span(start, domain.end(), "email")
