"""A browser that signs somebody in at the rig's identity provider, and uses the console."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2

from gates.rig.issuer import Issuer
from gates.rig.plain_http import PLAIN
from gates.rig.world import World

_CSRF = re.compile(r'name="csrf" value="([^"]+)"')


@contextmanager
def browser(world: World) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=world.service.base_url, **PLAIN, timeout=400) as client:
        yield client


def begin(client: httpx2.Client) -> dict[str, str]:
    """Begin a sign-in; returns what the service asked the provider for: state, nonce and more."""
    answer = client.get("/console/sign-in/provider")
    assert answer.status_code == 303, answer.text
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}


def come_back(client: httpx2.Client, state: str, code: str, **more: str) -> httpx2.Response:
    return client.get("/console/signed-in", params={"state": state, "code": code, **more})


def sign_in(client: httpx2.Client, trusted: Issuer, subject: str, **claims: Any) -> httpx2.Response:
    """A whole sign-in, as the provider would have it."""
    asked = begin(client)
    return come_back(client, asked["state"], trusted.code(subject, asked["nonce"], **claims))


def csrf(page: str) -> str:
    found = _CSRF.search(page)
    return found[1] if found else ""
