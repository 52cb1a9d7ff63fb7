"""Addresses of computers on the internet, versions 4 and 6. Those of the own machine belong to nobody and stay."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from mlxdistill.data.redaction.context import is_said
from mlxdistill.data.redaction.spans import Span

_V4 = re.compile(r"(?<![\w.])(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}[0-9]{1,3}(?![\w]|\.[0-9])")
_V6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]{2,39}(?:(?<=:)[0-9]{1,3}(?:\.[0-9]{1,3}){3})?(?![\w:]|\.[0-9])")
_VERSION = re.compile(r"(?:version|release|build|firmware|\bv(?:er)?\.?)[ :]{0,2}\Z", re.IGNORECASE)


def find_ip_addresses(text: str) -> Iterator[Span]:
    for match in _V4.finditer(text):
        try:
            v4 = IPv4Address(match.group())
        except AddressValueError:
            continue
        if not (v4.is_loopback or v4.is_unspecified) and not is_said(_VERSION, text, *match.span(), before=10):
            yield Span(match.start(), match.end(), "ip")
    for match in _V6.finditer(text):
        written = match.group()
        if written.count(":") < 2 or not any(map(str.isdecimal, written)):  # as in C++: `abba::face`
            continue
        try:
            v6 = IPv6Address(written)
        except AddressValueError:
            continue
        if not (v6.is_loopback or v6.is_unspecified):
            yield Span(match.start(), match.end(), "ip")
