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
    """The destination is not on the allow-list, or its address is not one we may reach."""


@dataclass(frozen=True)
class Reply:
    status: int
    body: str


class Egress:
    def __init__(self, allow: Iterable[str], *, private_addresses: bool = False) -> None:
        """`allow` lists origins such as `https://hooks.example.com`.

        `private_addresses` admits loopback and private networks for listed origins; the composition
        root sets it outside staging and production only."""
        self._origins = {_origin(urlsplit(item)) for item in allow}
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
                    raise EgressRefused("the answer is too large")
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
        if not self._private_addresses and not all(ipaddress.ip_address(a).is_global for a in addresses):
            raise EgressRefused("the destination's address is not public")
        return addresses[0]


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"not an origin: {parts.geturl()}")
    return parts.scheme, parts.hostname, _port(parts)
