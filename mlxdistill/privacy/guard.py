"""A guard against the network, in every process.

The environment switches ask the libraries to stay offline; the audit hook makes it a rule for anything that goes
through Python's sockets, whatever library opens them. Loopback and sockets that are not of the internet pass. Native
code that opens sockets of its own is beyond Python's reach: the proof for that is a run in a network namespace
(`unshare -rn mlxdistill demo`).
"""

from __future__ import annotations

import functools
import ipaddress
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

from mlxdistill.errors import NetworkBlockedError

_INTERNET = (socket.AF_INET, socket.AF_INET6)
# These look a name up in C before the hook hears of them.
_RESOLVING_METHODS = ("connect", "connect_ex", "sendto")
_installed = False


def offline_environment() -> dict[str, str]:
    """Variables that keep the libraries offline and quiet about it."""
    return {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def install_guard() -> None:
    """From here on any connection or name look-up beyond this machine raises NetworkBlockedError. Cannot be undone."""
    global _installed
    os.environ.update(offline_environment())
    if not _installed:
        _installed = True
        sys.addaudithook(_audit)
        for name in _RESOLVING_METHODS:
            setattr(socket.socket, name, _without_look_up(getattr(socket.socket, name)))


def _without_look_up(method: Callable[..., Any]) -> Callable[..., Any]:
    """`method` of a socket, whose last argument is an address, refusing one beyond this machine before it begins."""

    @functools.wraps(method)
    def guarded(self: socket.socket, *arguments: Any) -> Any:
        if self.family in _INTERNET and arguments and isinstance(arguments[-1], tuple):
            _check(arguments[-1])
        return method(self, *arguments)

    return guarded


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        connection, address = arguments  # sendmsg on a connected socket has no address
        if connection.family in _INTERNET and address is not None:
            _check(address)
    elif event == "socket.getnameinfo":
        _check(arguments[0])
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0]
        if host and not _is_local(host):
            _block(str(host))


def _check(address: tuple[Any, ...]) -> None:
    if not _is_local(address[0]):
        _block(f"{address[0]}:{address[1]}")


def _is_local(host: str | bytes) -> bool:
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if name in ("localhost", ""):
        return True
    try:
        return ipaddress.ip_address(name.split("%")[0]).is_loopback
    except ValueError:
        return False


def _block(target: str) -> None:
    raise NetworkBlockedError(
        f"a connection to {target} was blocked: only `mlxdistill pull` may use the network",
        hint="get models beforehand with `mlxdistill pull`",
    )
