"""Gate 3, validation: what clients have the service hold, before and after their requests (faults 43, 44).

Counted in bytes that the service says it holds, and in connections that it has; nothing is measured in seconds.
"""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from uuid import uuid4

import psutil

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.formats import Reply
from gates.rig.people import Person
from gates.rig.service import wait_for
from gates.rig.world import World

RUN = json.dumps({"feature": "probe", "task": "Say something."}).encode()
LARGE = 900_000
# Streamed, one piece a call: more than the kernel keeps for a client, and fewer than the 4 MB that an answer may have.
WAITING = Reply(calls=tuple((f"call_{number}", "note", json.dumps({"text": "x" * 20_000})) for number in range(170)))
BUSY = "request.too_much_at_once"
WRONG = Person("nobody", "", "", "svc_test_wrongwrong_wrong", None)  # type: ignore[arg-type]


def _held(world: World) -> int:
    told = re.search(r"^http_request_body_bytes (\S+)", world.service.operations("/metrics").text, re.MULTILINE)
    return int(float(told[1])) if told else -1


def _head(who: Person | None, length: int | None, *, path: str = "/v1/runs", extra: str = "") -> bytes:
    kind = "application/x-www-form-urlencoded" if path.startswith("/console") else "application/json"
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    key = f"Authorization: Bearer {who.key}\r\n" if who is not None else ""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{key}Idempotency-Key: {uuid4().hex}\r\nContent-Type: {kind}\r\n"
    return f"{head}{size}\r\n{extra}\r\n".encode()


@contextmanager
def _line(world: World, *, window: int = 0) -> Iterator[socket.socket]:
    with socket.socket() as line:
        if window:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        line.settimeout(300)
        line.connect(("127.0.0.1", world.service.port))
        yield line


def _send(line: socket.socket, data: bytes) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # it hangs up on who goes on sending
        line.sendall(data)


def _answer(line: socket.socket) -> tuple[int, str]:
    """Status and text of the next answer, as far as it came in its first pieces."""
    told = b""
    with suppress(ConnectionResetError):
        while b"\r\n\r\n" not in told and (piece := line.recv(65_536)):
            told += piece
        length = re.search(rb"(?i)content-length: (\d+)", told)
        while length and len(told.partition(b"\r\n\r\n")[2]) < int(length[1]) and (piece := line.recv(65_536)):
            told += piece
    return (int(told.split()[1]) if told else 0), told.decode(errors="replace")


def _asked(world: World, who: Person | None, data: bytes, *, length: int | None, **more: str) -> tuple[int, str]:
    with _line(world) as line:
        _send(line, _head(who, length, **more) + data)
        return _answer(line)


@control("VAL-03", cases=48)
def test_no_sender_has_the_service_hold_more_than_its_share(proof: Proof, new_world: NewWorld) -> None:
    with new_world(REQUEST_MAX_BYTES="1000000", REQUEST_BYTES_IN_FLIGHT="4000000") as world:
        people = world.people(*[["probe_reader"]] * 5)
        with proof.positive("a large body is read, and let go of"):
            assert _asked(world, people[0], RUN.ljust(LARGE), length=LARGE)[0] == 202
            assert wait_for(lambda: _held(world) == 0)
        _without_a_key(proof, world, people[0])
        _with_keys(proof, world, people)
        proof.soon("in-flight", lambda: _held(world) == 0, 20, "once all have hung up, bytes are held")
        proof.same("in-flight", _asked(world, people[0], RUN, length=len(RUN))[0], 202, "at the end:")


def _without_a_key(proof: Proof, world: World, member: Person) -> None:
    """Refused before any of the body is received: a byte of it is missing all along."""
    most = 0
    with ExitStack() as lines:
        for number in range(20):
            line = lines.enter_context(_line(world))
            who = None if number % 2 else WRONG
            length = None if number % 3 == 0 else LARGE
            _send(line, _head(who, length) + (b"c350\r\n" if length is None else b"") + b" " * 50_000)
            proof.same("in-flight", _answer(line)[0], 401, f"{'a wrong' if who else 'no'} key, a byte short:")
            most = max(most, _held(world))
    proof.same("in-flight", most, 0, "bytes held for who has no key:")
    for who, status in ((None, 401), (WRONG, 401), (member, 100)):
        with _line(world) as line:
            _send(line, _head(who, len(RUN), extra="Expect: 100-continue\r\n"))
            proof.same("in-flight", _answer(line)[0], status, "to Expect: 100-continue:")
            if status == 100:
                _send(line, RUN)
                proof.same("in-flight", _answer(line)[0], 202, "and then the body:")
    form = "/console/sign-in"  # for everybody
    for length in (65_000, LARGE):
        proof.same("in-flight", _asked(world, None, b"key=", length=length, path=form)[0], 413, f"a form of {length}:")


def _with_keys(proof: Proof, world: World, people: list[Person]) -> None:
    """A quarter for each sender, and no more than the whole."""
    with ExitStack() as lines:
        waiting = []
        for number, who in enumerate(people[:4], start=1):
            waiting.append(lines.enter_context(_line(world)))
            _send(waiting[-1], _head(who, LARGE) + RUN)
            proof.soon("in-flight", partial(_holds, world, number * LARGE), 20, f"{number} bodies of {LARGE} are held")
            status, told = _asked(world, who, b"", length=LARGE)
            proof.same("in-flight", (status, BUSY in told), (503, True), "a second one of the same sender:")
            proof.holds("in-flight", "retry-after" in told.lower() and '"retryable":true' in told, told)
            chunk = b"30d40\r\n" + b" " * 200_000 + b"\r\n"
            proof.same("in-flight", _asked(world, who, chunk, length=None)[0], 503, "one in chunks:")
        other = people[4]
        proof.same("in-flight", _asked(world, other, RUN, length=len(RUN))[0], 202, "a small one of somebody else:")
        proof.same("in-flight", _asked(world, other, b"", length=LARGE)[0], 503, "a large one of somebody else:")
        _send(waiting[0], b" " * (LARGE - len(RUN)))
        proof.same("in-flight", _answer(waiting[0])[0], 202, "the first one, now whole:")
        proof.soon("in-flight", partial(_holds, world, 3 * LARGE), 20, "it is let go of")


def _holds(world: World, count: int) -> bool:
    return _held(world) == count


@control("VAL-03", cases=5)
def test_who_does_not_read_is_cut_off(proof: Proof, new_world: NewWorld) -> None:
    with new_world(CLIENT_STALL_S="3", MODEL_TIMEOUT_MS="120000") as world:
        ask = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
        with proof.positive("a client that reads is given every answer"), _line(world, window=4_096) as line:
            _send(line, ask * 20)
            received = 0
            while received < 20:
                piece = line.recv(16_384)
                assert piece, "the connection ended"
                received += piece.count(b"HTTP/1.1 200 OK")
        with _line(world, window=4_096) as line:
            _send(line, ask * 400)
            _cut_off(proof, world, line, "whose answers wait")
        [chatter] = world.people(["probe_chatter"])
        script = world.model.script(WAITING)
        asked = {"model": "standard", "stream": True, "messages": [{"role": "user", "content": script.task()}]}
        with _line(world, window=4_096) as line:
            body = json.dumps(asked).encode()
            _send(line, _head(chatter, len(body), path="/v1/chat/completions") + body)
            wait_for(lambda: script.seen)
            _cut_off(proof, world, line, "of a stream")
            proof.soon("stalled", lambda: script.seen[0].ended, 20, "the provider is still asked for it")
        proof.soon("stalled", partial(_nothing_held, world, chatter), 20, "its hold is not settled")
        metrics = world.service.operations("/metrics").text
        told = re.search(r"^http_stalled_connections_total (\S+)", metrics, re.MULTILINE)
        counted = float(told[1]) if told else 0
        proof.holds("stalled", counted >= 2, f"{counted:.0f} of 2 connections that were ended are counted")


def _cut_off(proof: Proof, world: World, line: socket.socket, what: str) -> None:
    assert world.service.process is not None
    service, here = psutil.Process(world.service.process.pid), line.getsockname()[1]

    def ended() -> bool:
        return here not in {getattr(each.raddr, "port", 0) for each in service.net_connections(kind="tcp")}

    wait_for(lambda: not ended())  # until it is accepted it is nobody's
    proof.soon("stalled", ended, 200, f"the connection {what} is kept")


def _nothing_held(world: World, who: Person) -> bool:
    budgets = world.service.call(who, "GET", "/v1/budgets").json()["items"]
    return all(float(each["held_usd"]) == 0 for each in budgets)
