"""fault 23: HOST and OPERATIONS_HOST may be IPv6 addresses, and an address that cannot be used names its setting."""

import socket
from collections.abc import Iterator

import pytest

from app.entrypoints.listening import CannotListen, http_url, listen, local_url, url_of

EVERYWHERE = "0.0.0.0"  # noqa: S104 - what is tested


@pytest.fixture
def opened() -> Iterator[list[socket.socket]]:
    sockets: list[socket.socket] = []
    yield sockets
    for each in sockets:
        each.close()


def _connects(host: str, listening: socket.socket) -> bool:
    try:
        with socket.create_connection((host, listening.getsockname()[1]), timeout=100):
            return True
    except ConnectionRefusedError:
        return False


@pytest.mark.parametrize(
    ("host", "reached", "unreached"),
    [
        ("127.0.0.1", ["127.0.0.1"], ["::1"]),
        (EVERYWHERE, ["127.0.0.1"], ["::1"]),
        ("localhost", ["127.0.0.1"], []),
        ("", ["127.0.0.1"], []),
        ("::1", ["::1"], ["127.0.0.1"]),
        ("0:0:0:0:0:0:0:1", ["::1"], ["127.0.0.1"]),
        ("::", ["::1", "127.0.0.1"], []),
        ("::0", ["::1", "127.0.0.1"], []),
        ("::ffff:127.0.0.1", ["127.0.0.1"], ["::1"]),
    ],
)
def test_it_listens_where_it_is_told_to(
    opened: list[socket.socket], host: str, reached: list[str], unreached: list[str]
) -> None:
    opened.append(listen(host, 0))
    assert [address for address in (*reached, *unreached) if _connects(address, opened[0])] == reached


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::"])
@pytest.mark.parametrize("prefix", ["", "OPERATIONS_"])
def test_a_taken_port_names_the_port(opened: list[socket.socket], host: str, prefix: str) -> None:
    opened.append(listen(host, 0))
    port = opened[0].getsockname()[1]
    with pytest.raises(CannotListen, match=f"^{prefix}PORT: .*:{port} is taken by another process"):
        listen(host, port, prefix=prefix)


@pytest.mark.parametrize("prefix", ["", "OPERATIONS_"])
@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("[::1]", "without brackets"),
        ("192.0.2.1", "to an address of this machine"),
        ("2001:db8::1", r"\[2001:db8::1\]:0"),
        ("no-such-host.invalid", "neither an address nor a host name"),
        ("a" * 64 + ".example", "neither an address nor a host name"),
        ("http://127.0.0.1", "neither an address nor a host name"),
    ],
)
def test_an_unusable_address_names_the_host(prefix: str, host: str, words: str) -> None:
    with pytest.raises(CannotListen, match=f"^{prefix}HOST: .*{words}"):
        listen(host, 0, prefix=prefix)


def test_urls_have_an_ipv6_address_in_brackets(opened: list[socket.socket]) -> None:
    opened.append(listen("::1", 0))
    assert url_of(opened[0]) == f"http://[::1]:{opened[0].getsockname()[1]}"
    assert http_url("fe80::1%eth0", 8000) == "http://[fe80::1%25eth0]:8000"
    assert http_url("service.example", 8000) == "http://service.example:8000"


@pytest.mark.parametrize(
    ("host", "address"), [("", "127.0.0.1"), (EVERYWHERE, "127.0.0.1"), ("::", "[::1]"), ("10.0.0.7", "10.0.0.7")]
)
def test_what_listens_everywhere_is_reached_by_loopback(host: str, address: str) -> None:
    assert local_url(host, 8000) == f"http://{address}:8000"
