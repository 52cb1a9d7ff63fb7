"""No connection leaves this machine; those on it pass. (The guard is installed for all tests.)"""

from __future__ import annotations

import http.server
import socket
import threading
import urllib.request

import pytest

from mlxdistill.errors import NetworkBlockedError


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_a_connection_to_the_outside_is_a_clear_error(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as connection, pytest.raises(NetworkBlockedError) as caught:
        connection.connect((address, 443))
    assert caught.value.hint == "get models beforehand with `mlxdistill pull`"


def test_not_even_a_name_is_looked_up() -> None:
    with pytest.raises(NetworkBlockedError, match=r"huggingface\.example"):
        socket.getaddrinfo("huggingface.example", 443)


@pytest.mark.parametrize("method", ["connect", "connect_ex"])
def test_a_name_given_to_a_socket_is_not_looked_up(method: str) -> None:
    with socket.socket() as connection, pytest.raises(NetworkBlockedError, match=r"huggingface\.example:443"):
        getattr(connection, method)(("huggingface.example", 443))


def test_a_name_given_with_a_datagram_is_not_looked_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, pytest.raises(NetworkBlockedError):
        udp.sendto(b"text", ("huggingface.example", 53))


def test_datagrams_are_blocked_too() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, pytest.raises(NetworkBlockedError):
        udp.sendto(b"text", ("192.0.2.1", 53))


def test_a_library_cannot_get_out_either() -> None:
    with pytest.raises(NetworkBlockedError):
        urllib.request.urlopen("http://192.0.2.1/", timeout=1)


def test_this_machine_can_be_reached() -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"here")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with urllib.request.urlopen(f"http://localhost:{server.server_port}/", timeout=5) as answer:
            assert answer.read() == b"here"


def test_messages_are_blocked_too() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, pytest.raises(NetworkBlockedError):
        udp.sendmsg([b"text"], [], 0, ("192.0.2.1", 53))


def test_a_message_on_a_connected_socket_names_no_address_and_passes() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as us,
    ):
        here.bind(("127.0.0.1", 0))
        us.connect(here.getsockname())
        us.sendmsg([b"text"])
        assert here.recv(4) == b"text"


def test_no_address_is_looked_up_backwards() -> None:
    with pytest.raises(NetworkBlockedError, match=r"192\.0\.2\.1"):
        socket.getnameinfo(("192.0.2.1", 53), 0)
    assert socket.getnameinfo(("127.0.0.1", 53), socket.NI_NUMERICHOST)[0] == "127.0.0.1"


@pytest.mark.skipif(not hasattr(socket, "AF_NETLINK"), reason="this system has no netlink sockets")
def test_the_kernel_is_not_the_network() -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as kernel:
        kernel.connect((0, 0))
        assert kernel.getsockname()[0]
