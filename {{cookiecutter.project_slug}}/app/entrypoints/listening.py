"""The sockets on which the servers of a process listen, IPv4 or IPv6, and the URLs of those. Gate: deployment."""

import errno
import ipaddress
import socket
from contextlib import suppress
from typing import Any

BACKLOG = 1024
LOOPBACK_OF = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - of what listens everywhere


class CannotListen(Exception):
    """The address cannot be listened on; the message names the setting to change."""


def listen(host: str, port: int, *, prefix: str = "") -> socket.socket:
    """A socket that listens there. `prefix` is of the two settings' names: OPERATIONS_ of OPERATIONS_HOST and _PORT.

    `::` takes IPv4 connections as well, where the machine has both. A host name takes its first IPv4 address, or its
    first IPv6 one where it has no other. Raises CannotListen, naming the setting that is wrong."""
    family, address = _resolve(host, port, f"{prefix}HOST")
    both = family == socket.AF_INET6 and _takes_ipv4(address[0]) and socket.has_dualstack_ipv6()
    try:
        return socket.create_server(address, family=family, backlog=BACKLOG, dualstack_ipv6=both)
    except OSError as error:
        raise CannotListen(_explained(error, host, port, prefix)) from None


def url_of(listening: socket.socket) -> str:
    """The HTTP address of a listening socket."""
    host, port = listening.getsockname()[:2]
    return http_url(host, port)


def http_url(host: str, port: int) -> str:
    """`http://HOST:PORT`, with an IPv6 address in brackets."""
    with suppress(ValueError):
        if ipaddress.ip_address(host).version == 6:
            host = f"[{host.replace('%', '%25')}]"  # RFC 6874: the zone of a link-local address
    return f"http://{host}:{port}"


def local_url(host: str, port: int) -> str:
    """Where a client on this machine reaches a server with this HOST and this PORT."""
    return http_url(LOOPBACK_OF.get(host, host), port)


def _resolve(host: str, port: int, setting: str) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not a host name"
        hint = "; write an IPv6 address without brackets" if host.startswith("[") else ""
        raise CannotListen(
            f"{setting}: {host} is neither an address nor a host name of this machine ({reason}){hint}"
        ) from None
    family, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    return family, address


def _takes_ipv4(address: str) -> bool:
    ip = ipaddress.IPv6Address(address)
    return ip.is_unspecified or ip.ipv4_mapped is not None


def _explained(error: OSError, host: str, port: int, prefix: str) -> str:
    where = http_url(host, port).removeprefix("http://")
    if error.errno == errno.EADDRINUSE:
        return f"{prefix}PORT: {where} is taken by another process; set {prefix}PORT to a free one"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return f"{prefix}PORT: not allowed to listen on {where}; set {prefix}PORT to one from 1024 on"
    reason = (error.strerror or str(error)).partition(" (while")[0]
    return f"{prefix}HOST: cannot listen on {where} ({reason}); set {prefix}HOST to an address of this machine"
