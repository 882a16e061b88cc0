"""The only way out for tools and tool servers: exact origins from settings, the address checked and pinned.

A name is resolved once, every address must be public, and the connection goes to the address that was checked, so a
name that changes its address between check and use gains nothing. It is a transport of the HTTP client, so each
redirect is a request that is checked like the first. Proxies from the environment are ignored (OWASP API7, ASVS 5.0
1.3.6 and 15.3.2). Gate: security, errors.
"""

import ipaddress
import json
import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from typing import Any, cast
from urllib.parse import SplitResult, urlsplit

import anyio
import anyio.to_thread
import httpx2

MAX_RESPONSE_BYTES = 256_000
MAX_REDIRECTS = 3
Origin = tuple[str, str, int]
_UNREADABLE = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029\\]")


class EgressRefused(Exception):
    """The destination is not on the allow-list, or its address is not one we may reach. Nothing was sent there."""


class EgressUncertain(Exception):
    """The request was sent and its answer cannot be used: what it did is not known."""


@dataclass(frozen=True)
class Reply:
    status: int
    body: str


class Egress:
    def __init__(self, allow: Iterable[str], *, private_addresses: bool = False) -> None:
        """`allow` lists origins such as `https://hooks.example.com`. Raises ValueError for anything else.

        `private_addresses` admits loopback and private networks for listed origins; the composition
        root sets it outside staging and production only."""
        self._origins = frozenset(_bare_origin(item) for item in allow)
        self._private_addresses = private_addresses

    def limited_to(self, origins: Iterable[str]) -> "Egress":
        """The same way out to those of these origins that are on the allow-list."""
        narrower = Egress((), private_addresses=self._private_addresses)
        narrower._origins = self._origins & {_bare_origin(item) for item in origins}
        return narrower

    def client(self, deadline: timedelta, *, max_bytes: int = MAX_RESPONSE_BYTES) -> httpx2.AsyncClient:
        """An HTTP client that can reach nothing else, for libraries that want one. Follows no redirect by itself.

        Its requests raise EgressRefused before any byte leaves, EgressUncertain for an answer that is too large."""
        # One client a call: a pooled connection to a shared address would be reused for another name behind it.
        return httpx2.AsyncClient(
            transport=_Guarded(self, max_bytes),
            trust_env=False,
            follow_redirects=False,
            max_redirects=MAX_REDIRECTS,
            timeout=deadline.total_seconds(),
        )

    async def get(self, url: str, *, deadline: timedelta, headers: Mapping[str, str] | None = None) -> Reply:
        """GET an allowed address, and whatever allowed address it redirects to."""
        self._require_allowed(url)
        async with self.client(deadline) as client:
            with anyio.fail_after(deadline.total_seconds()):  # the client's own timeout starts again with every byte
                try:
                    answer = await client.get(url, headers=headers, follow_redirects=True)
                except httpx2.TooManyRedirects:
                    raise EgressRefused(f"more than {MAX_REDIRECTS} redirects") from None
        return Reply(answer.status_code, answer.text)

    async def post_json(self, url: str, payload: object, *, deadline: timedelta, idempotency_key: str) -> Reply:
        """POST JSON to an allowed address. A redirect is the answer: what was sent goes nowhere else."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": idempotency_key}
        try:
            content = json.dumps(payload, allow_nan=False).encode()
        except (ValueError, TypeError):
            raise EgressRefused("what is to be sent cannot be written as JSON") from None
        return await self._posted(url, deadline, content=content, headers=headers)

    async def post_form(self, url: str, form: Mapping[str, str], *, deadline: timedelta) -> Reply:
        """POST a form to an allowed address, as an identity provider takes it. A redirect is the answer."""
        return await self._posted(url, deadline, data=dict(form))

    async def _posted(self, url: str, deadline: timedelta, **sent: Any) -> Reply:
        self._require_allowed(url)
        async with self.client(deadline) as client:
            with anyio.fail_after(deadline.total_seconds()):
                try:
                    answer = await client.post(url, **sent)
                except (httpx2.ConnectError, httpx2.ConnectTimeout):  # nobody has to find out whether it happened
                    raise EgressRefused("there is no connection to the destination") from None
        return Reply(answer.status_code, answer.text)

    async def checked(self, url: str) -> tuple[SplitResult, str]:
        """The parts of an allowed URL and the address to connect to. Raises EgressRefused."""
        parts = self._require_allowed(url)
        return parts, await self._resolved(parts)

    def _require_allowed(self, url: str) -> SplitResult:
        """By the very letters of the URL: whoever reads it otherwise than we do may reach another host."""
        if _UNREADABLE.search(url):  # `urlsplit` drops some of these in silence, the HTTP client refuses them
            raise EgressRefused("a space, a control character or a backslash in a URL is not allowed")
        try:
            parts = urlsplit(url)
            origin = _origin(parts)
            read = httpx2.URL(url)  # the reader that sends: its refusal belongs before the request
        except (ValueError, httpx2.InvalidURL):
            raise EgressRefused("not an absolute http(s) URL") from None
        if (read.scheme, read.host.lower(), read.port or _port(parts)) != origin:
            raise EgressRefused("this URL can be read as that of another host")
        if parts.username is not None or parts.password is not None:
            raise EgressRefused("credentials in a URL are not allowed")
        if origin not in self._origins:
            raise EgressRefused("this destination is not on the allow-list")
        return parts

    async def _resolved(self, parts: SplitResult) -> str:
        # By Python's own resolver on every event loop: what it says is what is checked.
        ask = partial(socket.getaddrinfo, parts.hostname or "", _port(parts), type=socket.SOCK_STREAM)
        try:
            found = await anyio.to_thread.run_sync(ask, abandon_on_cancel=True)
        except OSError:
            raise EgressRefused("the destination's name has no address") from None
        addresses = [str(entry[4][0]) for entry in found]
        if not self._private_addresses and not all(is_public(a) for a in addresses):
            raise EgressRefused("the destination's address is not public")
        return addresses[0]


def _plain(headers: httpx2.Headers) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers.raw if name.lower() != b"accept-encoding"]


@cache
def _certificates() -> ssl.SSLContext:
    return httpx2.create_ssl_context(trust_env=False)  # reading the certificates costs more than a request


class _Guarded(httpx2.AsyncBaseTransport):
    """Checks and pins every single request, redirects included, and counts the bytes of its answer."""

    def __init__(self, egress: Egress, max_bytes: int) -> None:
        self._egress, self._max_bytes = egress, max_bytes
        self._wire = httpx2.AsyncHTTPTransport(trust_env=False, verify=_certificates())

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        parts, address = await self._egress.checked(str(request.url))
        pinned = httpx2.Request(
            request.method,
            request.url.copy_with(host=address, port=_port(parts)),
            headers=[*_plain(request.headers), (b"Accept-Encoding", b"identity")],  # the Host header keeps the name
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": parts.hostname},
        )
        answer = await self._wire.handle_async_request(pinned)
        if answer.headers.get("content-encoding", "identity").lower() not in {"", "identity"}:
            await answer.aclose()
            raise EgressUncertain("the answer is compressed: it could unpack to any size")
        stream = _Counted(cast("httpx2.AsyncByteStream", answer.stream), self._max_bytes)
        return httpx2.Response(answer.status_code, headers=answer.headers, stream=stream, extensions=answer.extensions)

    async def aclose(self) -> None:
        await self._wire.aclose()


class _Counted(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, max_bytes: int) -> None:
        self._stream, self._left = stream, max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            self._left -= len(chunk)
            if self._left < 0:
                raise EgressUncertain("the answer is too large")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


# What is not one host on the public internet: IANA's special-purpose registries for IPv4 and IPv6 (RFC 6890), whole,
# because the standard library's word for public leaves out some of it, and differs from release to release.
_SPECIAL_V4 = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
    "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    "168.63.129.16/32",  # of no registry: a cloud's own agent, answered inside each of its machines
)  # fmt: skip
_SPECIAL_V6 = (
    "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
)  # fmt: skip
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")  # the only part given out so far (RFC 4291)
_SPECIAL = tuple(map(ipaddress.ip_network, (*_SPECIAL_V4, *_SPECIAL_V6)))


def is_public(address: str) -> bool:
    """Whether an address is one host on the public internet, and is not a tunnel to anything else.

    An IPv4 address written as IPv6 (`::ffff:10.0.0.1`) is judged as the one it is."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip.scope_id is not None or ip not in _GLOBAL_V6:
            return False
    return not any(ip.version == network.version and ip in network for network in _SPECIAL)


def _bare_origin(item: str) -> Origin:
    parts = urlsplit(item)
    if parts.path not in {"", "/"} or parts.query or parts.fragment or parts.username is not None:
        raise ValueError(f"EGRESS_ALLOW: {item} is not an origin such as https://hooks.example.com")
    return _origin(parts)


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _origin(parts: SplitResult) -> Origin:
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"not an origin: {parts.geturl()}")
    return parts.scheme, parts.hostname, _port(parts)
