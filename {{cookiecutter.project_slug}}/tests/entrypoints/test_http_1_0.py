"""Answers as the clients and proxies of an older HTTP read them: from a raw socket, until the service closes it."""

import json
import socket
from collections.abc import Iterator, Mapping

import pytest

from gates.rig.databases import NewDatabase
from gates.rig.pace import REQUEST_SECONDS
from gates.rig.people import Person
from gates.rig.provider import says
from gates.rig.world import World, final, opened

VARIANTS = [{}, {"Connection": "keep-alive"}, {"Expect": "100-continue"}]


@pytest.fixture(scope="module")
def world(new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with opened(new_sqlite(), tmp_path_factory.mktemp("http")) as made:
        yield made


@pytest.fixture(scope="module")
def who(world: World) -> Person:
    return world.people(["probe_reader", "probe_chatter"])[0]


def _answer(
    world: World, who: Person, request: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and the rest of what comes until the service closes the connection."""
    lines = [request, "Host: service", f"Authorization: Bearer {who.key}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"] if body else []
    with socket.create_connection(("127.0.0.1", world.service.port), timeout=REQUEST_SECONDS) as line:
        line.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        raw = b"".join(iter(lambda: line.recv(65_536), b""))
    head, _, rest = raw.partition(b"\r\n\r\n")
    status, *fields = head.decode("latin-1").split("\r\n")
    named = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    return int(status.split()[1]), named, rest


def _chat(world: World, *, stream: bool) -> bytes:
    messages = [{"role": "user", "content": world.model.script(says("one two three")).task()}]
    return json.dumps({"model": "standard", "stream": stream, "messages": messages}).encode()


@pytest.mark.parametrize("headers", VARIANTS)
def test_a_chat_stream_ends_with_the_connection(world: World, who: Person, headers: dict[str, str]) -> None:
    """fault 27: HTTP/1.0 knows no chunks and waits for no 100, whatever else its headers say."""
    body = _chat(world, stream=True)
    status, told, sent = _answer(world, who, "POST /v1/chat/completions HTTP/1.0", body, headers=headers)
    assert (status, told["connection"]) == (200, "close")
    assert not {"transfer-encoding", "content-length"} & told.keys()
    *events, end, nothing = sent.decode().split("\n\n")
    assert (end, nothing) == ("data: [DONE]", "")
    read = [json.loads(event.removeprefix("data: "))["choices"][0]["delta"] for event in events]
    assert "".join(delta.get("content") or "" for delta in read) == "one two three"


@pytest.mark.parametrize("headers", VARIANTS)
def test_the_events_of_a_run_end_with_the_connection(world: World, who: Person, headers: dict[str, str]) -> None:
    """fault 27"""
    ran = world.run(who, final())
    status, told, sent = _answer(world, who, f"GET /v1/runs/{ran.id}/events HTTP/1.0", headers=headers)
    assert (status, told["connection"]) == (200, "close")
    assert not {"transfer-encoding", "content-length"} & told.keys()
    events = [event.split("\n") for event in sent.decode().strip().split("\n\n")]
    assert events[-1][0] == "event: run.succeeded", events
    assert all(line.split(":")[0] in {"event", "id", "data", ""} for event in events for line in event), events


@pytest.mark.parametrize("headers", VARIANTS)
@pytest.mark.parametrize("request_line", ["GET /v1/runs", "GET /livez", "GET /nowhere", "HEAD /v1/runs"])
def test_any_other_answer_has_a_length(world: World, who: Person, request_line: str, headers: dict[str, str]) -> None:
    """fault 27"""
    _, told, sent = _answer(world, who, f"{request_line} HTTP/1.0", headers=headers)
    assert "transfer-encoding" not in told
    assert told["connection"] == "close"
    assert len(sent) == (0 if request_line.startswith("HEAD") else int(told["content-length"]))


def test_a_chat_whose_caller_waits_for_a_100_gets_its_answer_first(world: World, who: Person) -> None:
    """fault 27, a further input: `Expect` means nothing in HTTP/1.0 (RFC 9110, 10.1.1)."""
    body = _chat(world, stream=False)
    status, told, sent = _answer(
        world, who, "POST /v1/chat/completions HTTP/1.0", body, headers={"Expect": "100-continue"}
    )
    assert (status, int(told["content-length"])) == (200, len(sent))
    assert json.loads(sent)["choices"][0]["message"]["content"] == "one two three"


def test_a_newer_client_is_sent_the_same_stream_in_chunks(world: World, who: Person) -> None:
    body = _chat(world, stream=True)
    line = "POST /v1/chat/completions HTTP/1.1"
    status, told, _ = _answer(world, who, line, body, headers={"Connection": "close"})
    assert (status, told["transfer-encoding"]) == (200, "chunked")


def test_no_proxy_gathers_a_stream_before_it_passes_it_on(world: World, who: Person) -> None:
    """fault 25: the headers of every streamed answer."""
    chat = _answer(world, who, "POST /v1/chat/completions HTTP/1.0", _chat(world, stream=True))[1]
    events = _answer(world, who, f"GET /v1/runs/{world.run(who, final()).id}/events HTTP/1.0")[1]
    for told in (chat, events):
        assert told["content-type"].startswith("text/event-stream")
        assert told["x-accel-buffering"] == "no"
        assert "no-cache" in told["cache-control"]
    assert "x-accel-buffering" not in _answer(world, who, "GET /v1/runs HTTP/1.0")[1]
