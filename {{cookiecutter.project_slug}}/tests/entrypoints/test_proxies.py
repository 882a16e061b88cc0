"""fault 22: the environment's proxy is for what lies outside; loopback is never reached through it."""

import os
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import requests  # the OpenTelemetry exporter's
import sentry_sdk
import urllib3

from app.entrypoints.proxies import exempt_loopback
from gates.rig.databases import NewDatabase
from gates.rig.provider import provider, says
from gates.rig.service import running
from gates.rig.sink import Sink, sink

NOWHERE = "127.0.0.1:9"
PROXIES = {
    "http": {"HTTP_PROXY": f"http://{NOWHERE}", "HTTPS_PROXY": f"http://{NOWHERE}"},
    "http, lower case": {"http_proxy": f"http://{NOWHERE}", "https_proxy": f"http://{NOWHERE}"},
    "socks": {"ALL_PROXY": f"socks5://{NOWHERE}"},
    "socks, lower case": {"all_proxy": f"socks5h://{NOWHERE}"},
}
NAMES = [name for each in PROXIES.values() for name in each]


@pytest.fixture(params=PROXIES.values(), ids=list(PROXIES))
def proxied(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a process behind a proxy, as it is before the service looks at it."""
    for name in (*NAMES, "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    proxies: dict[str, str] = request.param
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)
    return proxies


@pytest.fixture
def end() -> Iterator[Sink]:
    with sink() as opened:
        yield opened


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize(
    "get",
    [
        lambda url: httpx2.get(url).status_code,
        lambda url: requests.get(url, timeout=100).status_code,
        lambda url: urllib.request.urlopen(url, timeout=100).status,  # noqa: S310 - loopback
    ],
    ids=["httpx2", "requests", "urllib"],
)
def test_every_client_library_reaches_loopback(
    proxied: dict[str, str], end: Sink, get: Callable[[str], int], host: str
) -> None:
    assert proxied
    exempt_loopback()
    assert get(end.url.replace("127.0.0.1", host)) == 200


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, []),
        ({"NO_PROXY": "a.example, .b.example"}, ["a.example", ".b.example"]),
        ({"no_proxy": "a.example", "NO_PROXY": "b.example"}, ["a.example"]),
        ({"NO_PROXY": "*"}, ["*"]),
        ({"NO_PROXY": "localhost,"}, []),
    ],
)
def test_what_is_exempt_already_stays_so(given: dict[str, str], kept: list[str]) -> None:
    environment = dict(given)
    exempt_loopback(environment)
    names = environment["NO_PROXY"].split(",")
    assert environment["no_proxy"] == environment["NO_PROXY"]
    assert [name for name in names if name in kept] == kept
    assert {"localhost", "127.0.0.1", "::1"} <= set(names)
    assert len(names) == len(set(names))


def test_what_lies_outside_is_reached_by_the_proxy(end: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", end.url)
    exempt_loopback()
    assert httpx2.get("http://provider.invalid/v1/models").status_code == 200
    assert [hit.path for hit in end.hits] == ["http://provider.invalid/v1/models"]


def test_the_error_tracker_on_loopback_is_reached(proxied: dict[str, str]) -> None:
    """Its client chooses a proxy when it is made."""
    assert proxied
    exempt_loopback()
    client: Any = sentry_sdk.Client(dsn="http://public@localhost:9/1")
    assert not isinstance(client.transport._pool, urllib3.ProxyManager)
    client.close(timeout=0)


def test_the_service_reaches_its_provider_on_loopback(
    proxied: dict[str, str], new_sqlite: NewDatabase, tmp_path: Path
) -> None:
    """As a model server on the same machine, whatever the proxies are: a client for SOCKS must be there to be made."""
    assert set(proxied) <= set(os.environ)
    with provider() as stub:
        settings = {"MODEL_PROVIDER": "openai", "MODEL_API_KEY": "sk-test-only", "MODEL_BASE_URL": stub.url}
        with running(new_sqlite(), tmp_path, **settings) as service:
            [who] = service.people(["member"])
            stub.answers(says("Good day."))
            body = {"model": "standard", "messages": [{"role": "user", "content": "Hello."}]}
            answer = service.call(who, "POST", "/v1/chat/completions", json=body)
            assert answer.status_code == 200, answer.text
