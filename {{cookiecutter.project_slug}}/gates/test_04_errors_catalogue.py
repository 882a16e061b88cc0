"""Gate 4, error handling: every code of the catalogue is met, as its row says, and nothing else is."""

import json
import re
import socket
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from app.errors import CATALOGUE, ErrorCode
from app.settings import ROOT
from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.chats import asked_chat
from gates.rig.events import streaming
from gates.rig.formats import Reply
from gates.rig.issuer import issuer
from gates.rig.people import Person
from gates.rig.provider import calls, fault, says, status
from gates.rig.service import wait_for
from gates.rig.world import World, final

Met = dict[str, Any]  # by code: the answer, or the error of a run
LIMITS = '[limits]\ncostly = "3/hour"\n'
RUN = {"feature": "probe", "task": "x"}


def _raw(world: World, said: bytes) -> httpx2.Response:
    """What is answered to these bytes."""
    with socket.create_connection(("127.0.0.1", world.service.port), timeout=200) as line:
        line.sendall(said)
        told = b""
        while piece := line.recv(65_536):
            told += piece
    head, _, body = told.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    return httpx2.Response(int(first.split()[1]), headers=dict(line.split(": ", 1) for line in rest), content=body)


def _second_large_body(world: World, who: Person) -> httpx2.Response:
    """While one of the same sender is on its way."""
    head = f"POST /v1/runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {who.key}\r\nContent-Type: application/json\r\n"
    said = f"{head}Content-Length: 900000\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", world.service.port), timeout=200) as line:
        line.sendall(said)
        wait_for(lambda: "http_request_body_bytes 900000.0" in world.service.operations("/metrics").text)
        return _raw(world, said)


def _requests(world: World, who: Person, admin: Person) -> Met:
    """What is wrong with the request itself."""
    key = {"Idempotency-Key": uuid4().hex}
    json_type = {"Content-Type": "application/json", **key}
    call = world.service.call
    used = {"Idempotency-Key": uuid4().hex}
    assert call(who, "POST", "/v1/runs", json=RUN, headers=used).status_code == 202
    world.sql("UPDATE api_keys SET expires_at = created_at WHERE member_id = ?", admin.member_id)
    return {
        "request.malformed": call(who, "POST", "/v1/runs", content=b"{", headers=json_type),
        "request.invalid": call(who, "POST", "/v1/runs", json={**RUN, "x": 1}, headers=key),
        "request.too_large": call(who, "POST", "/v1/runs", content=b" " * 1_000_001, headers=json_type),
        "request.too_much_at_once": _second_large_body(world, who),
        "request.unsupported_media": call(who, "POST", "/v1/runs", content=b"{}", headers=key),
        "request.method_not_allowed": call(who, "PATCH", "/v1/runs", json=RUN),
        "request.headers_too_large": call(who, "GET", "/v1/runs", headers={"X-Long": "x" * 40_000}),
        "request.timed_out": _raw(world, b"GET /v1/runs HTTP/1.1\r\nHost: x\r\nX-"),
        "auth.unauthenticated": call(None, "GET", "/v1/runs"),
        "auth.expired": call(admin, "GET", "/v1/runs"),
        "auth.forbidden": call(who, "GET", "/v1/keys"),
        "resource.not_found": call(who, "GET", f"/v1/runs/{uuid4()}"),
        "idempotency.key_missing": call(who, "POST", "/v1/runs", json=RUN),
        "idempotency.key_reused": call(who, "POST", "/v1/runs", json={**RUN, "task": "y"}, headers=used),
        "internal.unexpected": call(who, "GET", "/v1/probe/crash"),
    }


def _runs(world: World, who: Person, runner: Person) -> Met:
    """How runs end: the model's doing, the provider's, a limit's."""
    looks = tuple(calls("probe_lookup", {"query": f"q{n}"}, f"call_{n}") for n in range(9))
    scripts: dict[str, tuple[Reply, ...]] = {
        "model.output_invalid": (says("no form"),),
        "model.refused": (Reply(text="I will not.", finish="refusal"),),
        "model.truncated": (Reply(text="I beg", finish="length"),),
        "budget.run_limit": looks,
        "provider.rate_limited": (status(429),),
        "provider.overloaded": (status(503),),
        "provider.quota_exhausted": (status(429, kind="insufficient_quota"),),
        "provider.auth_failed": (status(401),),
        "provider.unavailable": (status(500),),
        "provider.rejected": (status(400),),
        "provider.timeout": (fault("hang", seconds=20),),
    }
    met: Met = {}
    for code, answers in scripts.items():
        [other] = world.people(["probe_reader"])
        met[code] = world.run(other, *answers).state["error"]
    met |= _chats(world)
    full = [(f"{number}.txt", "long " * 19_000) for number in range(5)]
    met["model.context_too_long"] = world.run(who, final(), documents=full).state["error"]
    poison = world.start(runner, calls("hazard_poison", {"query": "a"}), final(), feature="hazard")

    def dead() -> Any:
        world.service.revive()
        try:
            run = world.service.call(runner, "GET", f"/v1/runs/{poison.answer.json()['id']}").json()
        except httpx2.HTTPError:
            return None
        return run["error"] if run["state"] == "failed" else None

    met["run.dead_lettered"] = wait_for(dead, 100)
    return met


def _chats(world: World) -> Met:
    """What only the chat interface answers, in the shape that its clients read."""
    [chatter] = world.people(["probe_chatter"])
    refusal = json.dumps({"error": {"message": "No such role.", "param": "messages", "code": None}}).encode()
    refused = asked_chat(world, chatter, world.model.script(Reply(status=400, raw=refusal))).body["error"]
    unknown = asked_chat(world, chatter, world.model.script(says("x")), model="nobody-has-this").body["error"]
    known_as = {"model_not_found": "model.not_found"}
    return {
        "provider.refused_request": {"code": refused["code"], "detail": refused["message"]},
        "model.not_found": {"code": known_as.get(unknown["code"]), "detail": unknown["message"]},
    }


def _decisions(world: World, writer: Person, approver: Person, operator: Person) -> Met:
    """What others have decided meanwhile: people, switches, the clock."""
    write = calls("probe_write", {"text": "x"})
    ran = world.run(writer, write, final(), until=("waiting",))
    question = world.question(approver, ran)
    world.service.decide(approver, question)
    met: Met = {"resource.conflict": world.service.decide(approver, question)}
    late = world.run(writer, write, final(), until=("waiting",))
    question = world.question(approver, late)
    world.clock.advance(timedelta(hours=2))
    met["policy.approval_expired"] = world.service.decide(approver, question)
    world.clock.reset()
    stopped = world.run(writer, write, final(), until=("waiting",))
    world.service.call(writer, "POST", f"/v1/runs/{stopped.id}/cancel", json={"reason": "a drill"})
    met["run.cancelled"] = world.service.call(writer, "GET", f"/v1/runs/{stopped.id}").json()["error"]
    on = {"state": "on", "reason": "a drill"}
    world.service.call(operator, "PUT", "/v1/switches/runs", json=on)
    met["service.halted"] = world.service.start_run(writer, "x", feature="probe")
    world.service.call(operator, "PUT", "/v1/switches/runs", json={**on, "state": "off"})
    with world.locked():
        met["service.store_unavailable"] = world.service.start_run(writer, "x", feature="probe")  # what reads goes on
    return met


def _draining(world: World, writer: Person) -> Met:
    ran = world.run(writer, calls("probe_write", {"text": "x"}), final(), until=("waiting",))
    with streaming(world.service, writer, ran.id) as stream:
        stream.wait("run.started")
        world.service.stop()
        told = stream.end().data
    return {"service.draining": told}


def _others(new_world: NewWorld) -> Met:
    """What takes a service of its own: with limits, with a provider that is away, without money or models."""
    met: Met = {}
    with issuer() as away, new_world(limits=LIMITS, **away.settings) as world:
        away.down = True
        [who, admin] = world.people(["probe_reader"], ["probe_admin"])
        headers = {"Authorization": f"Bearer {away.token('ada')}"}
        met["auth.unavailable"] = world.service.call(None, "GET", "/v1/runs", headers=headers)
        world.service.call(admin, "PUT", "/v1/budgets", json={"scope": "tenant", "limit_usd": "0"})
        met["budget.exceeded"] = world.service.start_run(who, "x", feature="probe")
        met["rate.limited"] = [world.service.start_run(who, "x", feature="probe") for _ in range(4)][-1]
        models = world.config / "models.toml"
        for code, table in {
            "model.unknown": "[providers.other]\nstandard = { model = 'gpt-5-mini' }\n",
            "model.unpriced": "[providers.openai]\nstandard = { model = 'nobody-has-priced-this' }\n",
        }.items():
            models.write_text(table)
            met[code] = world.command("serve")
    return met


@pytest.mark.timeout(2_800)
@control("ERR-02", cases=171)
def test_every_code_is_met_as_its_row_says(proof: Proof, new_world: NewWorld) -> None:
    with new_world(
        MODEL_TIMEOUT_MS="2000", RUN_MAX_TOOL_CALLS="3", DATABASE_TIMEOUT_S="2", REQUEST_BYTES_IN_FLIGHT="1000000"
    ) as world:
        who, writer, approver, operator, runner, admin = world.people(
            ["probe_reader"], ["probe_writer"], ["probe_approver"], ["platform_operator"], ["hazard_runner"],
            ["probe_admin"],
        )  # fmt: skip
        with proof.positive("a good request is no error, and a good run has none"):
            assert world.run(who, final()).state["error"] is None
        met = _requests(world, who, admin) | _decisions(world, writer, approver, operator)
        met |= _runs(world, who, runner) | _draining(world, writer)
        paged = _paged(world)
    met |= _others(new_world)
    proof.same("all-met", sorted(met), sorted(CATALOGUE), "codes met, and codes of the catalogue:")
    callers = sorted(code for code in paged if CATALOGUE[code].status < 500)
    proof.holds("as-its-row", paged and not callers, f"somebody is called for {callers} of {sorted(paged)}")
    for code, seen in met.items():
        row = CATALOGUE[code]
        if isinstance(seen, httpx2.Response):
            _as_answered(proof, row, seen)
        elif isinstance(seen, dict):
            proof.same("as-its-row", seen["code"], code)
            proof.holds("as-its-row", seen["detail"], f"{code}: {seen}")
            proof.same("as-its-row", seen.get("retryable", row.retryable), row.retryable, code)
        else:
            proof.same("as-its-row", seen.returncode, 2, f"{code}: the service must not start")
            proof.holds("as-its-row", "Traceback" not in seen.stderr and seen.stderr.strip(), seen.stderr[-200:])
    page = (ROOT / "docs" / "errors.md").read_text()
    documented = re.findall(r"^\| `([a-z_.]+)` \| (\d+) \| (yes|no) \| (.+?) \|", page, re.MULTILINE)
    table = {code: (int(number), retry == "yes", title) for code, number, retry, title in documented}
    for code, row in CATALOGUE.items():
        proof.same("documented", table.get(code), (row.status, row.retryable, row.title), code)


def _paged(world: World) -> set[str]:
    """The codes of all errors that went to the people who look after the service."""
    lines = world.service.log.read_text().splitlines()
    return {code for line in lines if "error.paging" in line for code in CATALOGUE if code in line}


def _as_answered(proof: Proof, row: ErrorCode, answer: httpx2.Response) -> None:
    """Status, body and the headers that go with the status (RFC 9110, 11.6.1, 15.5.6, 15.6.4)."""
    body = answer.json()
    proof.same("as-its-row", (answer.status_code, body["code"]), (row.status, row.code))
    proof.same("as-its-row", (body["retryable"], body["title"]), (row.retryable, row.title), row.code)
    proof.holds("as-its-row", body["request_id"], f"{row.code}: no request id")
    needed = {401: "www-authenticate", 405: "allow", 429: "retry-after", 503: "retry-after"}.get(row.status)
    if needed is not None:
        proof.holds("headers", answer.headers.get(needed), f"{row.code}: no {needed}")
    if row.status in {429, 503}:
        proof.same("headers", str(body["retry_after_s"]), answer.headers["retry-after"], row.code)


@control("VAL-12", cases=8)
def test_what_is_too_long_for_the_model_never_reaches_its_provider(proof: Proof, world: World) -> None:
    [who] = world.people(["probe_reader"])
    half = [(f"{number}.txt", "long " * 11_000) for number in range(5)]
    full = [(f"{number}.txt", "long " * 19_000) for number in range(5)]
    with proof.positive("a long task that fits is done"):
        assert world.run(who, final(), documents=half).state["state"] == "succeeded"
    before = world.spent(who)
    for what, documents in {
        "documents": full,
        "other letters": [("a.txt", "長" * 99_000), ("b.txt", "長" * 60_000)],
    }.items():
        ran = world.run(who, final(), documents=documents)
        proof.same(
            "typed",
            (ran.state["state"], (ran.state["error"] or {}).get("code")),
            ("failed", "model.context_too_long"),
            what,
        )
        proof.same("not-asked", len(ran.script.seen), 0, f"{what}, requests at the provider:")
        proof.same("not-charged", world.spent(who), before, what)
    growing = (calls("probe_lookup", {"query": "a"}), status(400, kind="context_length_exceeded"))
    ran = world.run(who, *growing)
    proof.same("typed", ran.state["error"]["code"], "model.context_too_long", "the provider's own refusal:")
    proof.same("not-asked", len(ran.script.seen), 2, "it is not asked again:")
