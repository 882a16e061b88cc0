"""The only way out for tools: exact origins from settings, the address checked and pinned.

Names are resolved once, every address must be public, and the connection goes to the address that
was checked, so a name that changes its address between check and use gains nothing. Redirects are
not followed and proxies from the environment are ignored (OWASP API7, ASVS 5.0 1.3.6). Gate: security.
"""

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import SplitResult, urlsplit

import anyio
import httpx2

MAX_RESPONSE_BYTES = 256_000


class EgressRefused(Exception):
    """The destination is not on the allow-list, or its address is not one we may reach. Nothing was sent."""


class EgressUncertain(Exception):
    """The request was sent and its answer cannot be used: what it did is not known."""


@dataclass(frozen=True)
class Reply:
    status: int
    body: str


class Egress:
    def __init__(self, allow: Iterable[str], *, private_addresses: bool = False) -> None:
        """`allow` lists origins such as `https://hooks.example.com`.

        `private_addresses` admits loopback and private networks for listed origins; the composition
        root sets it outside staging and production only."""
        self._origins = {_bare_origin(item) for item in allow}
        self._private_addresses = private_addresses

    async def post_json(self, url: str, payload: object, *, deadline: timedelta, idempotency_key: str) -> Reply:
        """POST JSON to an allowed origin. Raises EgressRefused before any byte leaves."""
        parts = self._allowed(url)
        address = await self._resolve(parts)
        host = f"[{address}]" if ":" in address else address
        pinned = parts._replace(netloc=f"{host}:{_port(parts)}").geturl()
        async with (
            httpx2.AsyncClient(trust_env=False, follow_redirects=False, timeout=deadline.total_seconds()) as client,
            client.stream(
                "POST",
                pinned,
                json=payload,
                headers={"Host": parts.netloc, "Idempotency-Key": idempotency_key},
                extensions={"sni_hostname": parts.hostname},
            ) as response,
        ):
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_RESPONSE_BYTES:
                    raise EgressUncertain("the answer is too large")
            return Reply(response.status_code, body.decode("utf-8", "replace"))

    def _allowed(self, url: str) -> SplitResult:
        try:
            parts = urlsplit(url)
            origin = _origin(parts)
        except ValueError:
            raise EgressRefused("not an absolute http(s) URL") from None
        if parts.username is not None or parts.password is not None:
            raise EgressRefused("credentials in a URL are not allowed")
        if origin not in self._origins:
            raise EgressRefused("this destination is not on the allow-list")
        return parts

    async def _resolve(self, parts: SplitResult) -> str:
        try:
            found = await anyio.getaddrinfo(parts.hostname or "", _port(parts), type=socket.SOCK_STREAM)
        except OSError:
            raise EgressRefused("the destination's name has no address") from None
        addresses = [str(entry[4][0]) for entry in found]
        if not self._private_addresses and not all(is_public(a) for a in addresses):
            raise EgressRefused("the destination's address is not public")
        return addresses[0]


# Addresses the standard library calls global, and that lead to private ones or to many hosts at once.
_LEADING_INSIDE = tuple(
    ipaddress.ip_network(net) for net in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "::/96", "fec0::/10")
)


def is_public(address: str) -> bool:
    """Whether an address is one host on the public internet, and is not a tunnel to anything else."""
    ip = ipaddress.ip_address(address)
    inside = any(ip.version == net.version and ip in net for net in _LEADING_INSIDE)
    return ip.is_global and not ip.is_multicast and not inside


def _bare_origin(item: str) -> tuple[str, str, int]:
    parts = urlsplit(item)
    if parts.path not in {"", "/"} or parts.query or parts.fragment or parts.username is not None:
        raise ValueError(f"EGRESS_ALLOW: {item} is not an origin such as https://hooks.example.com")
    return _origin(parts)


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"not an origin: {parts.geturl()}")
    return parts.scheme, parts.hostname, _port(parts)
