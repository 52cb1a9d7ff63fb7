"""Who may see the page: whoever has the link, once, in a browser on this machine.

The link holds a token that is good for one visit; that browser then has a cookie, which no script can read and no other
site can send. Requests with another name for this machine are refused, so that no name that somebody else controls can
be made to point here (DNS rebinding); requests that change something must say that they come from the page.

What a browser was let in with is kept in the run folder (as a hash) until the review ends, so that a page whose server
was killed goes on with the next one.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOST = "127.0.0.1"
MOST_BODY_BYTES = 4096
_HEADERS = (
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused: the status, and a page's heading and sentence."""

    status: int
    title: str
    sentence: str


NOT_HERE = Refusal(421, "Not here", "This page answers to the address in its link alone.")
ANOTHER_SITE = Refusal(403, "Refused", "The request came from another site.")
TOO_LARGE = Refusal(413, "Too large", "No decision is as long as this.")
NO_LINK = Refusal(403, "No link", "Open the link that `mlxdistill review` printed in the terminal.")
USED = Refusal(
    403,
    "This link has been used",
    "It opens the page once, in one browser, or it is of an earlier review. If somebody else has used it, end the"
    " review with Ctrl-C in the terminal at once."
    " To open it here, end it and start `mlxdistill review` again: nothing decided is lost.",
)


class Access:
    """The token of the link and the cookie of the browser that used it.

    Args:
        kept: the hash of a cookie that an earlier server of this review gave.
    """

    def __init__(self, port: int, kept: str | None = None) -> None:
        self.origin = f"http://{HOST}:{port}"
        self.cookie = f"mlxdistill_review_{port}"
        self.kept = kept
        self._authority = f"{HOST}:{port}"
        self._token: str | None = secrets.token_urlsafe(32)

    @property
    def link(self) -> str:
        """The address to open; to be asked for before it was used."""
        return f"{self.origin}/?token={self._token}"

    def exchange(self, token: str) -> str | None:
        """A new cookie for the token, which is void from then on; None where it is not the token, or void."""
        if self._token is None or not secrets.compare_digest(token.encode(), self._token.encode()):
            return None
        self._token, value = None, secrets.token_urlsafe(32)
        self.kept = _hash(value)
        return value

    def knows(self, request: Request) -> bool:
        """Whether the request has the cookie."""
        value = request.cookies.get(self.cookie)
        return value is not None and self.kept is not None and secrets.compare_digest(_hash(value), self.kept)

    def refusal(self, request: Request) -> Refusal | None:
        """Why a request is refused whatever it asks for; None where it is not."""
        if request.headers.getlist("host") != [self._authority]:
            return NOT_HERE
        first = request.method == "GET" and request.url.path == "/"
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none") and not first:
            return ANOTHER_SITE
        if request.headers.get("sec-purpose", "").startswith("prefetch"):
            return NO_LINK
        if request.method not in ("GET", "HEAD"):
            if request.headers.getlist("origin") != [self.origin]:
                return ANOTHER_SITE
            length = request.headers.get("content-length", "")
            if not length.isdigit() or int(length) > MOST_BODY_BYTES:
                return TOO_LARGE
        return None if first or self.knows(request) else NO_LINK


def _hash(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()


class Gate:
    """ASGI middleware: refuses what must not be answered, and puts the headers on every answer, errors too.

    Args:
        page: renders a refusal as a page.
    """

    def __init__(self, app: ASGIApp, access: Access, page: Callable[[Refusal], Response]) -> None:
        self._app = app
        self._access = access
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.requests import Request

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((name, value) for name, value in _HEADERS if name not in there),
                ]
            await send(message)

        refusal = self._access.refusal(Request(scope)) if scope["type"] == "http" else NOT_HERE
        app = self._app if refusal is None else self._page(refusal)
        await app(scope, receive, sending)
