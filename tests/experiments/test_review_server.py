"""Who is let in, over raw HTTP; and what comes of requests that the page would never make."""

from __future__ import annotations

import json
import re
import socket
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from review_runs import Server, answer, make_run, people_in, reviewing, rows_of

from mlxdistill.rundir.layout import RunDir
from mlxdistill.tasks.rows import Row

SECRET = "A secret text that nobody logs."


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    head: str
    body: str

    def header(self, name: str) -> str | None:
        found = re.search(rf"^{name}: (.*?)\r?$", self.head, re.IGNORECASE | re.MULTILINE)
        return found and found.group(1)


def ask(
    server: Server, method: str, path: str, headers: Mapping[str, str | None] | None = None, body: bytes = b""
) -> Reply:
    """One request, byte for byte. Headers that are None are left out."""
    usual = {
        "Host": f"127.0.0.1:{server.port}",
        "Connection": "close",
        "Content-Length": str(len(body)) if body else None,
    }
    sent = {**usual, **(headers or {})}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items() if value is not None)]
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, content = received.decode("utf-8").partition("\r\n\r\n")
    return Reply(int(head.split()[1]), head, content)


def path_of(server: Server) -> str:
    return server.link.removeprefix(f"http://127.0.0.1:{server.port}")


def use_link(server: Server) -> str:
    """The cookie of the browser that opened the link."""
    reply = ask(server, "GET", path_of(server))
    assert reply.status == 200
    value, *attributes = str(reply.header("set-cookie")).split("; ")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(attributes)
    return value


def make(folder: Path) -> RunDir:
    rows = [Row("secret", SECRET), *rows_of(5)]
    return make_run(folder, {"pool": rows}, [answer(row.id, "ok", 0.6) for row in rows])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return make(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def server(run: RunDir) -> Iterator[Server]:
    with reviewing(run) as started:
        yield started


@pytest.fixture(scope="module")
def cookie(server: Server) -> str:
    return use_link(server)


def decision(server: Server, cookie: str, **changed: Any) -> tuple[dict[str, str | None], bytes]:
    """Headers and body of a decision as the page sends it."""
    content = {"place": 0, "label": 1, "seen": 0, "since": 0, **changed}
    headers = {"Cookie": cookie, "Origin": f"http://127.0.0.1:{server.port}", "Content-Type": "application/json"}
    return headers, json.dumps(content).encode()


def test_the_link_lets_one_browser_in(server: Server, cookie: str) -> None:
    again = ask(server, "GET", path_of(server))
    assert (again.status, again.header("set-cookie")) == (403, None)
    assert "This link has been used" in again.body
    assert ask(server, "GET", path_of(server), {"Cookie": cookie}).status == 200
    assert ask(server, "GET", "/state", {"Cookie": cookie}).status == 200


@pytest.mark.parametrize("path", ["/state", "/row/0", "/?token=wrong", "/?token=%F0%9F%92%A9", "/"])
def test_without_the_cookie_nothing_is_shown(server: Server, cookie: str, path: str) -> None:
    for headers in ({}, {"Cookie": cookie[:-1]}, {"Cookie": "other=1"}):
        reply = ask(server, "GET", path, headers)
        assert reply.status == 403
        assert SECRET not in reply.body
        assert "row-" not in reply.body


@pytest.mark.parametrize(
    "host", ["localhost:{port}", "127.0.0.1", "evil.example:{port}", "127.0.0.1.evil.example:{port}", ""]
)
@pytest.mark.parametrize("path", ["/", "/state", "/row/0", "/nothing"])
def test_another_name_for_this_machine_is_refused(server: Server, cookie: str, host: str, path: str) -> None:
    reply = ask(server, "GET", path, {"Host": host.format(port=server.port), "Cookie": cookie})
    assert reply.status in (400, 421)
    assert SECRET not in reply.body


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "http://localhost:{port}", "http://127.0.0.1"])
def test_only_the_page_may_decide(server: Server, cookie: str, run: RunDir, origin: str | None) -> None:
    headers, body = decision(server, cookie)
    headers["Origin"] = origin and origin.format(port=server.port)
    assert ask(server, "POST", "/decide", headers, body).status == 403
    assert people_in(run) == {}


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_another_site_asks_for_is_refused(server: Server, cookie: str, site: str) -> None:
    for path in ("/state", "/row/0"):
        assert ask(server, "GET", path, {"Cookie": cookie, "Sec-Fetch-Site": site}).status == 403


def test_looking_ahead_does_not_use_the_link(tmp_path: Path) -> None:
    with reviewing(make(tmp_path)) as server:
        assert ask(server, "GET", path_of(server), {"Sec-Purpose": "prefetch;prerender"}).status == 403
        assert ask(server, "GET", path_of(server)).status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/decide"),
        ("DELETE", "/state"),
        ("GET", "/decide"),
        ("POST", "/state"),
        ("TRACE", "/"),
        ("OPTIONS", "/"),
    ],
)
def test_other_methods_are_refused(server: Server, cookie: str, method: str, path: str) -> None:
    headers, body = decision(server, cookie)
    assert ask(server, method, path, headers, body if method != "GET" else b"").status == 405


@pytest.mark.parametrize(
    "path",
    [
        "/../config.yaml",
        "/%2e%2e/labels.sqlite",
        "/row/../../config.yaml",
        "/labels.sqlite",
        "/row/-1",
        "/row/99",
        "/row/0x1",
        "//etc/passwd",
    ],
)
def test_there_is_nothing_but_the_page_and_its_rows(server: Server, cookie: str, path: str) -> None:
    assert ask(server, "GET", path, {"Cookie": cookie}).status == 404


def test_a_body_is_a_decision_or_nothing(server: Server, cookie: str, run: RunDir) -> None:
    headers, _ = decision(server, cookie)
    for body in (b"{", b"[]", b"null", b"\xff", b"[" * 4000, b'{"place": 0}', *map(wrong_body, WRONG)):
        assert ask(server, "POST", "/decide", headers, body).status == 400
        assert ask(server, "POST", "/undo", headers, body).status == 400
    assert people_in(run) == {}


WRONG: tuple[dict[str, Any], ...] = (
    {"place": -1},
    {"place": 0.5},
    {"place": "0"},
    {"place": True},
    {"place": None},
    {"seen": None},
    {"label": -1},
    {"label": "toxic"},
    {"label": 2**60},
    {"more": 1},
)


def wrong_body(changed: Mapping[str, Any]) -> bytes:
    return json.dumps({"place": 0, "label": 1, "seen": 0, "since": 0, **changed}).encode()


def test_rows_and_labels_that_are_not_there(server: Server, cookie: str, run: RunDir) -> None:
    for changed in ({"place": 6}, {"label": 2}):
        headers, body = decision(server, cookie, **changed)
        assert ask(server, "POST", "/decide", headers, body).status == 404
    assert people_in(run) == {}


def test_a_large_body_is_not_read(server: Server, cookie: str) -> None:
    headers, _ = decision(server, cookie)
    assert ask(server, "POST", "/decide", {**headers, "Content-Length": "1000000000"}).status == 413
    chunked = {**headers, "Transfer-Encoding": "chunked", "Content-Length": None}
    assert ask(server, "POST", "/decide", chunked, b"5\r\n{}   \r\n0\r\n\r\n").status == 413


def test_nothing_is_cached_framed_or_loaded_from_elsewhere(server: Server, cookie: str) -> None:
    page = ask(server, "GET", "/", {"Cookie": cookie})
    policy = str(page.header("content-security-policy"))
    nonce = re.search(r"script-src 'nonce-([^']+)'", policy).group(1)  # type: ignore[union-attr]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert set(re.findall(r"<(?:script|style)[^>]*>", page.body)) == {
        f'<style nonce="{nonce}">',
        f'<script nonce="{nonce}">',
        f'<script id="data" type="application/json" nonce="{nonce}">',
    }
    assert re.findall(r'(?:src|href)="([^"#][^"]*)"', page.body) == ["data:,"]
    other = ask(server, "GET", "/", {"Cookie": cookie})
    assert nonce not in other.body
    for reply in (
        page,
        ask(server, "GET", "/row/0", {"Cookie": cookie}),
        ask(server, "GET", "/nothing", {"Cookie": cookie}),
    ):
        assert reply.header("cache-control") == "no-store"
        assert reply.header("x-frame-options") == "DENY"
        assert reply.header("referrer-policy") == "no-referrer"
        assert reply.header("x-content-type-options") == "nosniff"
        assert "frame-ancestors 'none'" in str(reply.header("content-security-policy"))
        assert reply.header("server") is None


def test_it_listens_on_the_loopback_address_alone(server: Server) -> None:
    import psutil

    listening = [
        each.laddr for each in psutil.Process(server.process.pid).net_connections("inet") if each.status == "LISTEN"
    ]
    assert [(address.ip, address.port) for address in listening] == [("127.0.0.1", server.port)]


def test_no_text_and_no_token_in_logs_or_files(tmp_path: Path) -> None:
    run = make(tmp_path)
    with reviewing(run) as server:
        cookie = use_link(server)
        shown = [ask(server, "GET", f"/row/{place}", {"Cookie": cookie}).body for place in range(6)]
        headers, body = decision(server, cookie)
        assert ask(server, "POST", "/decide", headers, body).status == 200
        ask(server, "POST", "/decide", headers, b"{" + SECRET.encode())
        kept = run.review.read_text("utf-8")
        assert stat.S_IMODE(run.review.stat().st_mode) == 0o600
        out, err = server.end()
    assert any(SECRET in each for each in shown)
    token = server.link.partition("token=")[2]
    for said in (out, err, kept):
        assert SECRET not in said
        assert cookie.partition("=")[2] not in said
        assert token not in said
    assert "1 of 6 rows decided (1 now): 0 accepted, 1 changed, 0 labelled, 0 unsure" in out
    assert "Traceback" not in err
    assert not run.review.exists()


def test_a_second_server_takes_another_port_and_a_taken_one_is_said(
    run: RunDir, server: Server, tmp_path: Path
) -> None:
    with reviewing(make(tmp_path)) as other:
        assert other.port != server.port
    taken = ["--port", str(server.port)]
    with pytest.raises(AssertionError, match="cannot listen: address already in use"), reviewing(run, *taken):
        pass


def test_what_was_killed_goes_on_at_the_same_place(tmp_path: Path) -> None:
    run = make(tmp_path)
    with reviewing(run) as server:
        cookie = use_link(server)
        headers, body = decision(server, cookie)
        assert ask(server, "POST", "/decide", headers, body).status == 200
        server.kill()
        with reviewing(run) as again:
            assert again.port == server.port
            state = json.loads(ask(again, "GET", "/state", {"Cookie": cookie}).body)
            assert state["summary"]["decided"] == 1
            again.end()
        with reviewing(run) as third:  # ended with Ctrl-C: that browser is not known any more
            assert ask(third, "GET", "/state", {"Cookie": cookie}).status == 403
