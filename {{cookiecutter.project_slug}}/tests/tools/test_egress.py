"""The only way out: exact origins, addresses checked on every hop; counted at a real receiver."""

import json
import socket
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from app.tools.egress import Egress, EgressRefused, EgressUncertain, is_public
from gates.rig.sink import Sink
from gates.rig.sink import sink as opened_sink

pytestmark = pytest.mark.anyio
DEADLINE = timedelta(seconds=3)


@pytest.fixture
def sink() -> Iterator[Sink]:
    with opened_sink() as received:
        yield received


async def _post(egress: Egress, url: str) -> Any:
    return await egress.post_json(url, {"text": "hello"}, deadline=DEADLINE, idempotency_key="key-1")


def _port(sink: Sink) -> int:
    return int(sink.url.rpartition(":")[2])


def _open(sink: Sink) -> Egress:
    return Egress([sink.url], private_addresses=True)


async def test_a_listed_origin_is_reached_with_its_key(sink: Sink) -> None:
    reply = await _post(_open(sink), f"{sink.url}/hook?x=1")
    assert reply.status == 200
    [hit] = sink.hits
    assert (hit.path, hit.headers["Idempotency-Key"]) == ("/hook?x=1", "key-1")
    assert json.loads(hit.body) == {"text": "hello"}


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:{port}/",
        "https://127.0.0.1:{port}/",
        "http://127.0.0.1:1/",
        "http://127.0.0.1/",
        "http://2130706433:{port}/",
        "http://0x7f000001:{port}/",
        "http://0177.0.0.1:{port}/",
        "http://127.1:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://127.0.0.1:{port}@attacker.example/",
        "http://attacker.example#@127.0.0.1:{port}/",
        "http://user:word@127.0.0.1:{port}/",
        "http://@127.0.0.1:{port}/",
        "http://127.0.0.1.attacker.example:{port}/",
        "http://\uff11\uff12\uff17.0.0.1:{port}/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:{port}/",
        "//127.0.0.1:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "not a url",
        "",
        "http://[::1",
        "http://127.0.0.1:99999/",
    ],
)
async def test_every_other_spelling_is_refused_before_a_byte_leaves(sink: Sink, url: str) -> None:
    with pytest.raises(EgressRefused):
        await _post(_open(sink), url.format(port=_port(sink)))
    assert sink.hits == []


@pytest.mark.parametrize("method", ["get", "post"])
async def test_what_is_no_http_address_is_refused(sink: Sink, method: str) -> None:
    for url in ("file:///etc/passwd", "nothing", f"{sink.url.replace('http', 'ftp')}/"):
        with pytest.raises(EgressRefused):
            await (_open(sink).get(url, deadline=DEADLINE) if method == "get" else _post(_open(sink), url))


async def test_a_get_follows_a_redirect_to_an_allowed_address_only(sink: Sink) -> None:
    with opened_sink() as other:
        both = Egress([sink.url, other.url], private_addresses=True)
        reply = await both.get(f"{sink.url}/redirect?to={other.url}/there", deadline=DEADLINE)
        assert reply.status == 200
        assert [hit.path for hit in other.hits] == ["/there"]
        for inside in (f"{other.url}/there", "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd"):
            with pytest.raises(EgressRefused):
                await _open(sink).get(f"{sink.url}/redirect?to={inside}", deadline=DEADLINE)
        assert len(other.hits) == 1


async def test_a_circle_of_redirects_ends(sink: Sink) -> None:
    with pytest.raises(EgressRefused, match="redirects"):
        await _open(sink).get(f"{sink.url}/circle", deadline=DEADLINE)
    assert len(sink.hits) == 4


async def test_a_narrower_way_out_never_widens(sink: Sink) -> None:
    everything = _open(sink)
    assert (await everything.limited_to([sink.url]).get(f"{sink.url}/a", deadline=DEADLINE)).status == 200
    for origins in ([], ["https://elsewhere.example"]):
        with pytest.raises(EgressRefused):
            await everything.limited_to(origins).get(f"{sink.url}/b", deadline=DEADLINE)
    with pytest.raises(EgressRefused):
        await Egress([]).limited_to([sink.url]).get(f"{sink.url}/c", deadline=DEADLINE)
    assert [hit.path for hit in sink.hits] == ["/a"]


async def test_the_post_of_a_redirect_is_not_sent_on(sink: Sink) -> None:
    reply = await _post(_open(sink), f"{sink.url}/redirect?to=/secret")
    assert reply.status == 302
    assert [hit.path for hit in sink.hits] == ["/redirect?to=/secret"]


async def test_a_listed_name_with_a_private_address_is_refused_in_production(sink: Sink) -> None:
    for host in ("127.0.0.1", "localhost"):
        strict = Egress([f"http://{host}:{_port(sink)}"], private_addresses=False)
        with pytest.raises(EgressRefused, match="not public"):
            await _post(strict, f"http://{host}:{_port(sink)}/")
    assert sink.hits == []


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "169.254.169.254",
        "224.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "::127.0.0.1",
        "fec0::1",
        "fd00::1",
        # fault 41
        "::ffff:100.100.100.200",
        "::ffff:100.64.0.1",
        "::ffff:169.254.169.254",
        "::ffff:a00:1",
        "192.0.0.192",
        "192.0.0.9",
        "192.31.196.1",
        "168.63.129.16",
        "::ffff:168.63.129.16",
        "100::1",
        "2001::1",
        "2001:20::1",
        "fe80::1",
        "4000::1",
        "ff02::1",
    ],
)
async def test_an_address_that_leads_inside_is_not_public(address: str) -> None:
    assert not is_public(address)
    assert is_public("93.184.215.14")
    assert is_public("2606:2800:21f:cb07:6820:80da:af6b:8b2c")
    assert is_public("::ffff:93.184.215.14")


@pytest.mark.parametrize(
    "path", ["/ho\tok", "/ho\nok", "/a b", "/\x7f", "\\x", "/\u00a0", "/\u2028", "/" + "a" * 70_000, "/x\x00"]
)
async def test_an_address_that_two_readers_read_differently_is_refused_before_anything_is_sent(
    sink: Sink, path: str
) -> None:
    """fault 42: it ended as an outcome nobody knows, and nothing had been sent."""
    with pytest.raises(EgressRefused):
        await _post(_open(sink), sink.url + path)
    assert sink.hits == []


async def test_a_post_without_a_connection_is_known_not_to_have_happened() -> None:
    """fault 42: an unknown outcome is a person's work, and here there is none to find out."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        egress = Egress([url], private_addresses=True)
        with pytest.raises(EgressRefused, match="no connection"):
            await _post(egress, f"{url}/hook")
        with pytest.raises(EgressRefused, match="no connection"):
            await egress.post_form(f"{url}/token", {"a": "b"}, deadline=DEADLINE)


@pytest.mark.parametrize("payload", [{"text": float("nan")}, {"text": object()}])
async def test_what_cannot_be_written_is_refused_before_anything_is_sent(sink: Sink, payload: object) -> None:
    """fault 42"""
    with pytest.raises(EgressRefused, match="JSON"):
        await _open(sink).post_json(f"{sink.url}/hook", payload, deadline=DEADLINE, idempotency_key="key-1")
    assert sink.hits == []


async def test_an_allowed_entry_must_be_a_bare_origin() -> None:
    for entry in ("https://h.example/path", "https://user@h.example", "h.example", "https://h.example?x=1"):
        with pytest.raises(ValueError, match="origin"):
            Egress([entry])


async def test_a_compressed_answer_is_not_unpacked(sink: Sink) -> None:
    with pytest.raises(EgressUncertain, match="compressed"):
        await _open(sink).get(f"{sink.url}/packed", deadline=DEADLINE)
    assert sink.hits[-1].headers["Accept-Encoding"] == "identity"


async def test_a_huge_answer_is_cut_off(sink: Sink) -> None:
    with pytest.raises(EgressUncertain, match="too large"):
        await _post(_open(sink), f"{sink.url}/big")


async def test_a_proxy_from_the_environment_is_ignored(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert (await _post(_open(sink), f"{sink.url}/")).status == 200
