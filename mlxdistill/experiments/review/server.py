"""The server of the page: starlette on the loopback address, one process, one thread.

A decision is committed before it is answered, so that what the page has shown as saved is saved. Nothing that is asked
or answered is logged.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlxdistill.errors import DataError, MlxDistillError, UsageError
from mlxdistill.experiments.review.access import HOST, NO_LINK, USED, Access, Gate, Refusal
from mlxdistill.experiments.review.session import Session
from mlxdistill.rundir.files import read_json, write_json
from mlxdistill.store import Stale

if TYPE_CHECKING:
    from jinja2 import Environment
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

PAGE = Path(__file__).parent / "page"


def serve(
    session: Session, page: Mapping[str, Any], kept: Path, port: int | None, on_open: Callable[[str], None]
) -> None:
    """Serves the page until Ctrl-C.

    Args:
        page: what the page's template shows.
        kept: the file that lets the page go on with a new server after this one was killed.
        port: None for any; the same as of the server that was killed, where there was one.
        on_open: is given the link, once it can be opened.

    Raises UsageError where the port is taken.
    """
    import uvicorn

    before = _read_kept(kept)
    with _listening(port, before.get("port")) as listener:
        number = listener.getsockname()[1]
        access = Access(number, before.get("cookie") if before.get("port") == number else None)
        app = make_app(session, page, access, lambda: write_json(kept, {"port": number, "cookie": access.kept}))
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=2,
            h11_max_incomplete_event_size=32768,
            proxy_headers=False,
        )
        with contextlib.suppress(KeyboardInterrupt):
            on_open(access.link)
            uvicorn.Server(config).run(sockets=[listener])
        kept.unlink(missing_ok=True)


def make_app(session: Session, page: Mapping[str, Any], access: Access, on_entry: Callable[[], None]) -> ASGIApp:
    """The application. `on_entry` is called when a browser was let in."""
    from starlette.applications import Starlette
    from starlette.routing import Route

    handlers = Handlers(session, page, access, on_entry)
    routes = [
        Route("/", handlers.page, methods=["GET"]),
        Route("/state", handlers.state, methods=["GET"]),
        Route("/row/{place:int}", handlers.row, methods=["GET"]),
        Route("/decide", handlers.decide, methods=["POST"]),
        Route("/undo", handlers.undo, methods=["POST"]),
    ]
    return Gate(Starlette(routes=routes), access, handlers.refused)


class Handlers:
    """What is answered to whom the gate lets through. Nothing in here waits for anything but the disk."""

    def __init__(self, session: Session, page: Mapping[str, Any], access: Access, on_entry: Callable[[], None]) -> None:
        self._session = session
        self._page = page
        self._access = access
        self._on_entry = on_entry
        self._templates = _templates()

    async def page(self, request: Request) -> Response:
        """The page, to the browser that has the cookie, or that uses the link."""
        token = request.query_params.get("token")
        if self._access.knows(request):
            return self._rendered("review.html.j2", 200, **self._page)
        cookie = None if token is None else self._access.exchange(token)
        if cookie is None:
            return self.refused(NO_LINK if token is None else USED)
        self._on_entry()
        response = self._rendered("review.html.j2", 200, **self._page)
        response.set_cookie(self._access.cookie, cookie, httponly=True, samesite="strict")
        return response

    async def state(self, request: Request) -> Response:
        since = request.query_params.get("since", "0")
        return self._answered(lambda: self._session.state(int(since) if since.isdecimal() else 0))

    async def row(self, request: Request) -> Response:
        start = request.query_params.get("start", "0")
        place = request.path_params["place"]
        return self._answered(lambda: self._session.row(place, int(start) if start.isdecimal() else 0))

    async def decide(self, request: Request) -> Response:
        content = await _content(request, ("place", "seen", "since"), ("label",))
        if content is None:
            return _json({"message": "not a decision"}, 400)
        place, seen, since, label = (content[name] for name in ("place", "seen", "since", "label"))
        return self._changed(since, lambda: self._session.decide(place, label, seen))

    async def undo(self, request: Request) -> Response:
        content = await _content(request, ("number", "since"), ())
        if content is None:
            return _json({"message": "not a decision"}, 400)
        return self._changed(content["since"], lambda: self._session.undo(content["number"]))

    def refused(self, refusal: Refusal) -> Response:
        return self._rendered("refusal.html.j2", refusal.status, refusal=refusal)

    def _changed(self, since: int, change: Callable[[], None]) -> Response:
        """Makes a change and answers with what is so now; 409 where another window had been there before."""

        def work() -> dict[str, Any]:
            try:
                change()
            except Stale:
                return {"stale": True, **self._session.state(since)}
            return self._session.state(since)

        return self._answered(work)

    def _answered(self, work: Callable[[], dict[str, Any]]) -> Response:
        try:
            content = work()
        except IndexError:
            return _json({"message": "there is no such row or label"}, 404)
        except MlxDistillError as error:
            return _json({"message": error.message, "hint": error.hint}, 503)
        return _json(content, 409 if content.get("stale") else 200)

    def _rendered(self, template: str, status: int, **values: Any) -> Response:
        from starlette.responses import HTMLResponse

        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self';"
            " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        text = self._templates.get_template(template).render(nonce=nonce, **values)
        return HTMLResponse(text, status, headers={"content-security-policy": policy})


async def _content(request: Request, numbers: Sequence[str], optional: Sequence[str]) -> dict[str, Any] | None:
    """The JSON object of a request: natural numbers, and such as may be null; None where it is anything else."""
    try:
        content = json.loads(await request.body())
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or set(content) != {*numbers, *optional}:
        return None
    naturals = {name for name, value in content.items() if type(value) is int and 0 <= value < 2**53}
    nulls = {name for name in optional if content[name] is None}
    return content if naturals | nulls == set(content) else None


def _json(content: Mapping[str, Any], status: int) -> Response:
    from starlette.responses import Response

    # In ASCII: a row's id may hold half of a character, which UTF-8 cannot write.
    return Response(json.dumps(content), status, media_type="application/json")


def _templates() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(PAGE)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


@contextlib.contextmanager
def _listening(port: int | None, before: int | None) -> Iterator[socket.socket]:
    """A socket that listens on the loopback address. Raises UsageError where the port that was asked for is taken."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port or before or 0))
        except (OSError, OverflowError) as error:
            if port is not None:
                reason = getattr(error, "strerror", None) or "no such port"
                hint = "name another one, or leave --port out for any that is free"
                raise UsageError(f"cannot listen: {reason.lower()}", where=f"--port {port}", hint=hint) from error
            listener.bind((HOST, 0))
        listener.listen()
        yield listener


def _read_kept(path: Path) -> dict[str, Any]:
    """What the last server left, where it was killed."""
    try:
        content = read_json(path)
    except DataError:
        return {}
    known = isinstance(content, dict) and type(content.get("port")) is int and isinstance(content.get("cookie"), str)
    return content if known else {}
