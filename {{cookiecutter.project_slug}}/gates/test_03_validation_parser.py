"""Gate 3, validation: what arrives before anybody has looked at it: bytes, documents of JSON, sizes."""

import gzip
import json
import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx2
import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.people import Person
from gates.rig.plain_http import PLAIN
from gates.rig.world import World

RUN = {"feature": "probe", "task": "Say something."}
JSON = "application/json"
GROWTH = 20_000_000  # bytes that the service may grow by

# The grammar of RFC 8259, with what it allows and people forget: every escape, any whitespace, any number.
_space = st.text(" \t\n\r", max_size=3)
_escape = st.sampled_from(
    ['\\"', "\\\\", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t", "\\u0041", "\\ud83d\\ude00", "\\ud800"]
)
_plain = st.characters(blacklist_characters='"\\', min_codepoint=0x20, blacklist_categories=["Cs"])
_string = st.lists(st.one_of(_plain, _escape), max_size=12).map(lambda parts: f'"{"".join(parts)}"')
_number = st.from_regex(r"-?(0|[1-9][0-9]{0,12})(\.[0-9]{1,9})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)
_scalar = st.one_of(_string, _number, st.sampled_from(["true", "false", "null"]))


def _nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    lists = st.lists(inner, max_size=4).map(lambda items: f"[{','.join(items)}]")
    objects = st.dictionaries(_string, st.tuples(_space, inner), max_size=4).map(
        lambda fields: "{" + ",".join(f"{name}{space}:{value}" for name, (space, value) in fields.items()) + "}"
    )
    return st.one_of(lists, objects)


_document = st.tuples(_space, st.recursive(_scalar, _nested, max_leaves=12), _space).map("".join)


@st.composite
def _broken(draw: st.DrawFn) -> bytes:
    """A document with something taken out, put in or exchanged: nearly JSON, or not at all."""
    raw = bytearray(draw(_document).encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=3))
    return bytes(raw)


HOSTILE: dict[str, bytes] = {
    "nothing but space": b"   ",
    "NaN": b'{"task": NaN}',
    "Infinity": b'{"task": Infinity}',
    "minus Infinity": b'{"task": -Infinity}',
    "a number beyond range": b'{"task": 1e400}',
    "a number of 5,000 digits": b'{"task": ' + b"9" * 5_000 + b"}",
    "a lone surrogate": b'{"task": "\\ud800", "feature": "probe"}',
    "a lone surrogate as a name": b'{"\\udfff": 1, "task": "x", "feature": "probe"}',
    "NUL": b'{"task": "a\\u0000b", "feature": "probe"}',
    "NUL as a name": b'{"\\u0000": 1}',
    "a raw NUL": b'{"task": "a\0b"}',
    "100,000 lists": b"[" * 100_000 + b"]" * 100_000,
    "100,000 open lists": b"[" * 100_000,
    "100,000 objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "900 lists": b"[" * 900 + b"]" * 900,
    "lists in a field": b'{"task": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    "100,000 fields": b"{" + b",".join(b'"f%d":1' % n for n in range(60_000)) + b"}",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": json.dumps(RUN).encode("utf-16"),
    "UTF-32": json.dumps(RUN).encode("utf-32"),
    "broken UTF-8": b'{"task": "\xff\xfe"}',
    "an overlong slash": b'{"task": "\xc0\xaf"}',
    "a surrogate in UTF-8": b'{"task": "\xed\xa0\x80"}',
    "a trailing comma": b'{"task": "x",}',
    "a comment": b'{"task": "x" /* y */}',
    "single quotes": b"{'task': 'x'}",
    "two documents": b"{} {}",
    "a name without quotes": b"{task: 1}",
    "hexadecimal": b'{"task": 0x10}',
    "a leading zero": b'{"task": 01}',
    "a leading plus": b'{"task": +1}',
    "a bare word": b"hello",
    "half a document": b'{"task": "x',
    "a control character": b'{"task": "a\x01b"}',
    "pickle": b"\x80\x04\x95\x0b\x00",
    "XML": b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>",
}


def _bodies(count: int, strategy: st.SearchStrategy[Any], number: int) -> list[Any]:
    """So many drawn values, the same ones each time."""
    found: list[Any] = []

    @seed(number)
    @settings(
        max_examples=count, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategy)
    def draw(value: Any) -> None:
        found.append(value)

    draw()
    return found


@dataclass(frozen=True)
class _Line:
    """A client that keeps its connection, for many requests."""

    client: httpx2.Client

    def post(self, raw: bytes | Iterator[bytes], **headers: str) -> httpx2.Response:
        return self.client.post("/v1/runs", content=raw, headers=headers)


@contextmanager
def _open(world: World, who: Person) -> Iterator[_Line]:
    headers = {"Authorization": f"Bearer {who.key}", "Idempotency-Key": "parser", "Content-Type": JSON}
    base = world.service.base_url
    with httpx2.Client(base_url=base, headers=headers, **PLAIN, timeout=300) as client:
        yield _Line(client)


def _judge(proof: Proof, line: _Line, raw: bytes, what: str) -> None:
    answer = line.post(raw)
    proof.holds("no-failure", answer.status_code < 500, f"{what}: {answer.status_code} to {raw[:200]!r}")
    try:
        json.loads(raw.decode("utf-8"), parse_constant=_refuse)
        valid = not raw.startswith(b"\xef\xbb\xbf")
    except (ValueError, RecursionError):
        valid = False
    if valid:
        proof.holds("no-valid-one-refused", answer.status_code != 400, f"{what}: {answer.text[:200]} to {raw[:200]!r}")
    else:
        proof.holds(
            "invalid-refused", 400 <= answer.status_code < 500, f"{what}: {answer.status_code} to {raw[:200]!r}"
        )


def _refuse(name: str) -> None:
    raise ValueError(name)


@control("VAL-02", cases=1_200)
def test_no_document_makes_the_parser_fail(proof: Proof, world: World) -> None:
    [who] = world.people(["probe_reader"])
    with _open(world, who) as line:
        with proof.positive("a good body is read"):
            assert line.post(json.dumps(RUN).encode()).status_code == 202
        for what, raw in HOSTILE.items():
            _judge(proof, line, raw, what)
        for document in _bodies(200, _document, 1):
            raw = document.encode("utf-8", "surrogatepass")
            _judge(proof, line, raw, "drawn")
            _judge(proof, line, b'{"feature": "probe", "task": ' + raw + b"}", "drawn, as the task")
        for raw in _bodies(200, _broken(), 2):
            _judge(proof, line, raw, "broken")
            _judge(proof, line, b'{"feature": "probe", "documents": [' + raw + b"]}", "broken, within")


DUPLICATES = (
    b'{"feature": "probe", "task": "a", "task": "b"}',
    b'{"feature": "x", "task": "a", "feature": "probe"}',
    b'{"feature": "probe", "task": "a", "\\u0074ask": "b"}',
    b'{"feature": "probe", "task": "a", "documents": [{"name": "a", "text": "b", "name": "c"}]}',
    b'{"feature": "probe", "task": "a", "limits": {"tool_calls": 1, "tool_calls": 9}}',
)
KINDS = (
    "text/plain", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "",
    "application/json; charset=utf-16", "application/json; charset=latin-1", "application/jsonx", "text/json",
    "application/octet-stream", "application/json, text/plain", "application/merge-patch+json", "*/*", "json",
)  # fmt: skip
ONCE = ("Authorization", "Content-Type", "Idempotency-Key", "Host")


@control("VAL-13", cases=39)
def test_what_parsers_read_differently_is_refused(proof: Proof, world: World) -> None:
    [who] = world.people(["probe_reader"])
    with _open(world, who) as line:
        good = json.dumps(RUN).encode()
        with proof.positive("JSON is read, with its character set said or not"):
            for kind in (JSON, f"{JSON}; charset=utf-8", 'Application/JSON; charset="UTF-8"'):
                assert line.post(good, **{"Content-Type": kind, "Idempotency-Key": uuid4().hex}).status_code == 202
        for raw in DUPLICATES:
            answer = line.post(raw)
            proof.same("duplicates", answer.status_code, 422, raw)
            proof.holds("duplicates", "twice" in answer.text, answer.text)
        for kind in KINDS:
            proof.same("content-type", line.post(good, **{"Content-Type": kind}).status_code, 415, kind)
        for coding in ("gzip", "deflate", "br", "identity, gzip", "x-unknown"):
            answer = line.post(good, **{"Content-Encoding": coding})
            proof.same("content-type", answer.status_code, 415, f"Content-Encoding: {coding}")
        for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"):
            proof.same("one-charset", line.post(json.dumps(RUN).encode(name)).status_code, 400, name)
        for name in ONCE:
            status, _ = _raw(world, who, good, extra=f"{name}: {'x' if name != 'Content-Type' else JSON}\r\n".encode())
            proof.same("said-once", status, 400, f"{name} sent twice:")
        status, _ = _raw(world, who, good, extra=b"Transfer-Encoding: chunked\r\n")
        proof.same("said-once", status, 400, "a length and chunks:")


def _raw(world: World, who: Person, body: bytes, *, extra: bytes = b"") -> tuple[int, bytes]:
    """One request as these very bytes; the status and the whole answer."""
    head = (
        f"POST /v1/runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {who.key}\r\nIdempotency-Key: {uuid4().hex}\r\n"
        f"Content-Type: {JSON}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    )
    with socket.create_connection(("127.0.0.1", world.service.port), timeout=200) as line:
        with suppress(BrokenPipeError, ConnectionResetError):  # it hangs up on who goes on sending
            line.sendall(head.encode() + extra + b"\r\n" + body)
        return _answer(line)


def _answer(line: socket.socket) -> tuple[int, bytes]:
    told = b""
    with suppress(ConnectionResetError, TimeoutError):
        while piece := line.recv(65_536):
            told += piece
    return (int(told.split()[1]) if told else 0), told


def _chunks(total: int, size: int = 64_000) -> Iterator[bytes]:
    for _ in range(total // size):
        yield b" " * size


@pytest.mark.timeout(2_800)
@control("VAL-03", cases=19)
def test_sizes_are_limited_before_anything_is_parsed(proof: Proof, new_world: NewWorld) -> None:
    with new_world(REQUEST_MAX_BYTES="1000000") as world:
        [who] = world.people(["probe_reader"])
        with _open(world, who) as line:
            _sizes(proof, world, who, line)


def _sizes(proof: Proof, world: World, who: Person, line: _Line) -> None:
    with proof.positive("a body just below the limit is read"):
        padded = json.dumps(RUN).encode() + b" " * (1_000_000 - len(json.dumps(RUN)))
        assert line.post(padded).status_code == 202
    assert world.service.process is not None
    process = psutil.Process(world.service.process.pid)
    before = process.memory_info().rss
    for what, raw in {"one byte more": padded + b" ", "50 MB": b" " * 50_000_000}.items():
        proof.same("bytes", line.post(raw).status_code, 413, what)
    for size in (64_000, 1_000_000):
        answer = line.post(_chunks(50_000_000, size))
        proof.same("chunked", answer.status_code, 413, f"50 MB in chunks of {size}, no length:")
    bomb = gzip.compress(b" " * 200_000_000)
    for coding, packed in (("gzip", bomb), ("deflate", zlib.compress(b" " * 50_000_000)), ("br", b"\x0b")):
        answer = line.post(packed, **{"Content-Encoding": coding})
        proof.same("unpacked", answer.status_code, 415, f"{len(packed)} bytes of {coding}:")
    part = b'--x\r\nContent-Disposition: form-data; name="f%d"\r\n\r\n1\r\n'
    parts = b"".join(part % number for number in range(10_000)) + b"--x--\r\n"
    for path in ("/v1/runs", "/console/sign-in"):
        answer = line.client.post(path, content=parts, headers={"Content-Type": "multipart/form-data; boundary=x"})
        proof.same("parts", answer.status_code, 415, f"10,000 parts to {path}:")
    _heads(proof, world, who)
    _slow(proof, world, who)
    grown = process.memory_info().rss - before
    proof.holds("memory", grown < GROWTH, f"the service grew by {grown / 1e6:.0f} MB")
    proof.same("still-works", line.client.get("/v1/runs").status_code, 200)


def _heads(proof: Proof, world: World, who: Person) -> None:
    heads = {
        "one long header": b"X-Long: " + b"x" * 40_000 + b"\r\n",
        "many headers": b"".join(b"X-%d: y\r\n" % number for number in range(4_000)),
        "a header of 20 MB": b"X-Long: " + b"x" * 20_000_000 + b"\r\n",
    }
    for what, extra in heads.items():
        status, told = _raw(world, who, b"{}", extra=extra)
        proof.holds("headers", status in {431, 0} and (status or not told), f"{what}: {status}")
    with socket.create_connection(("127.0.0.1", world.service.port), timeout=200) as line:
        began, refused = time.monotonic(), False
        try:
            line.sendall(b"GET /v1/runs HTTP/1.1\r\nX-Endless: ")
            while time.monotonic() - began < 10:
                line.sendall(b"x" * 50_000)
                time.sleep(0.01)
        except (BrokenPipeError, ConnectionResetError):
            refused = True
        proof.holds("headers", refused, "a header without an end is taken for ten seconds")
    with socket.create_connection(("127.0.0.1", world.service.port), timeout=200) as line:
        line.sendall(b"GET /v1/runs?x=" + b"y" * 70_000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        status, _ = _answer(line)
        proof.holds("headers", 400 <= status < 500, f"a long address: {status}")


def _slow(proof: Proof, world: World, who: Person) -> None:
    """Half a head and nothing more: the connection is not kept for ever."""
    for what, said in {"nothing at all": b"", "half a head": b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nX-"}.items():
        with socket.create_connection(("127.0.0.1", world.service.port), timeout=200) as line:
            line.sendall(said)
            began = time.monotonic()
            status, _ = _answer(line)
            took = time.monotonic() - began
            proof.in_time("slow", took, 15, f"{what}:")
            proof.holds("slow", status in {0, 408}, f"{what}: {status}")
    answer = world.service.call(who, "GET", "/v1/runs")
    proof.same("slow", answer.status_code, 200, "others meanwhile:")
