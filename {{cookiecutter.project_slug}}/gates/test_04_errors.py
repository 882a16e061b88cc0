"""Gate 4, error handling: does failure degrade safely and predictably?"""

import json
import re
import time
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import httpx2

from app.errors import CATALOGUE
from gates.conftest import NewWorld, Target
from gates.proof import Proof, control
from gates.rig.formats import Reply
from gates.rig.interfaces import CHAT, IN_EVERY_INTERFACE, Interface
from gates.rig.people import Person
from gates.rig.personal_data import PERSONAL
from gates.rig.provider import Body, calls, status
from gates.rig.vectors import catalogue
from gates.rig.world import Ran, World, final

INSIDE = re.compile(
    r"Traceback|File \"|/app/|\.py\b|SELECT |sqlalchemy|sqlite|psycopg|pydantic|0x[0-9a-f]{6}", re.IGNORECASE
)


def _is_problem(proof: Proof, what: str, answer: httpx2.Response, expected: int, sent: str = "") -> None:
    """RFC 9457, this service's code and request id, and nothing of the inside or of the input."""
    proof.same("shape", answer.status_code, expected, what)
    proof.same("shape", answer.headers["content-type"], "application/problem+json", what)
    body = answer.json()
    known = {"type", "title", "status", "detail", "code", "request_id", "retryable", "errors", "retry_after_s"}
    proof.holds("shape", {"type", "title", "status", "detail"} <= set(body) <= known, f"{what}: {sorted(body)}")
    proof.holds("shape", body["status"] == answer.status_code and body["code"] in CATALOGUE, f"{what}: {body}")
    proof.same("shape", body["type"], f"/problems/{body['code']}", what)
    proof.same("shape", body["request_id"], answer.headers["x-request-id"], what)
    if expected >= 500:
        proof.same("no-internals", body["detail"], CATALOGUE[body["code"]].title, what)
    found = INSIDE.search(answer.text)
    proof.holds("no-internals", found is None, f"{what}: {found and found[0]}")
    proof.holds("no-internals", not sent or sent not in answer.text, f"{what}: the input came back")


IN_ITS_OWN_WORDS = {"model_not_found": "model.not_found"}  # codes of the interface that its clients look for


@control("ERR-01", cases=76)
@IN_EVERY_INTERFACE
def test_errors_of_openai_s_interfaces_have_the_shape_that_its_clients_read(
    proof: Proof, new_world: NewWorld, interface: Interface
) -> None:
    with new_world(catalogue=catalogue()) as world:
        _shapes(proof, world, interface)
        _refusals(proof, world, interface)


def _shapes(proof: Proof, world: World, interface: Interface) -> None:
    chatter, reader = world.people(["probe_chatter"], ["probe_reader"])
    path, json_type = interface.path, {"Content-Type": "application/json"}
    said = {"messages": [{"role": "user", "content": "x"}]} if interface is CHAT else {"input": "x"}
    good = {"model": interface.model, **said}
    call = world.service.call
    with proof.positive("a good request is answered with its data"):
        assert interface.ask(world, chatter, world.model.script(interface.good)).body["object"] == interface.made
    word = f"canary{uuid4().hex}"
    answers = {
        "no credential": (401, call(None, "POST", path, json=good)),
        "no permission": (403, call(reader, "POST", path, json=good)),
        "no such method": (405, call(chatter, "PATCH", path, json=good)),
        "broken JSON": (400, call(chatter, "POST", path, content=f'{{"{word}'.encode(), headers=json_type)),
        "no JSON type": (415, call(chatter, "POST", path, content=word.encode())),
        "too large": (413, call(chatter, "POST", path, content=b" " * 1_000_001, headers=json_type)),
        "an unknown field": (422, call(chatter, "POST", path, json={**good, "x": word})),
        "an unknown model": (404, call(chatter, "POST", path, json={**good, "model": word})),
        "an unknown model's list": (405, call(chatter, "DELETE", "/v1/models")),
    }
    for what, (expected, answer) in answers.items():
        proof.same("shape", answer.status_code, expected, what)
        proof.same("shape", answer.headers["content-type"], "application/json", what)
        error = answer.json()["error"]
        proof.same("shape", set(error), {"message", "type", "code", "param", "request_id"}, what)
        code = IN_ITS_OWN_WORDS.get(error["code"], error["code"])
        proof.holds("shape", code in CATALOGUE and CATALOGUE[code].status == expected, error)
        proof.same("shape", answer.headers["x-should-retry"], str(CATALOGUE[code].retryable).lower(), what)
        proof.holds(
            "no-internals", not INSIDE.search(answer.text) and word not in answer.text, f"{what}: {answer.text}"
        )


def _refusals(proof: Proof, world: World, interface: Interface) -> None:
    """What a provider finds wrong with a request is told, without a person or a secret; mistakes of ours are not."""
    [chatter] = world.people(["probe_chatter"])
    for kind, value in PERSONAL.items():
        raw = json.dumps({"error": {"message": f"Not for {value}.", "param": "messages", "code": "bad_role"}}).encode()
        told = interface.ask(world, chatter, world.model.script(Reply(status=400, raw=raw)))
        proof.same("shape", (told.status, told.code), (400, "bad_role"), f"a refusal that tells a {kind}")
        proof.holds("no-internals", value not in json.dumps(told.body, ensure_ascii=False), f"{kind}: {told.body}")
    ours: list[Body] = [
        {"code": "model_not_found", "param": None}, {"code": "unknown", "param": "model"},
        {"code": "invalid_api_key", "param": None}, {"code": "billing_hard_limit_reached", "param": None},
    ]  # fmt: skip
    for mistake in ours:
        raw = json.dumps({"error": {"message": "upstream says no", **mistake}}).encode()
        told = interface.ask(world, chatter, world.model.script(Reply(status=400, raw=raw)))
        proof.same("no-internals", (told.status, told.code), (502, "provider.rejected"), mistake)
        proof.holds("no-internals", "upstream" not in json.dumps(told.body), f"{mistake}: {told.body}")


@control("ERR-01", cases=121)
def test_every_error_has_one_shape_and_tells_nothing_of_the_inside(proof: Proof, target: Target) -> None:
    with proof.positive("a good request is answered with its data"):
        good = target.call("GET", "/v1/runs?limit=1")
        assert good.status_code == 200
        assert "items" in good.json()
    word = f"canary{uuid4().hex}"
    run = {"feature": "no_such_feature", "task": word}
    key = {"Idempotency-Key": word}
    json_type = {"Content-Type": "application/json", **key}
    answers: dict[str, tuple[int, httpx2.Response]] = {
        "no credential": (401, target.call("GET", "/v1/runs", key="")),
        "no permission": (403, target.call("PUT", "/v1/switches/runs", json={"state": "on", "reason": word})),
        "no such route": (404, target.call("GET", f"/v1/{word}")),
        "no such object": (404, target.call("GET", f"/v1/runs/{uuid4()}")),
        "no such method": (405, target.call("PATCH", "/v1/runs", json=run)),
        "no key": (400, target.call("POST", "/v1/runs", json=run)),
        "broken JSON": (400, target.call("POST", "/v1/runs", content=f'{{"task": "{word}'.encode(), headers=json_type)),
        "no JSON type": (415, target.call("POST", "/v1/runs", content=word.encode(), headers=key)),
        "an unknown field": (422, target.call("POST", "/v1/runs", json={**run, "x": word}, headers=key)),
        "an unknown feature": (422, target.call("POST", "/v1/runs", json=run, headers=key)),
        "NaN": (422, target.call("POST", "/v1/runs", content=b'{"task": NaN, "feature": 1e400}', headers=json_type)),
        "a lone surrogate": (
            422, target.call("POST", "/v1/runs", content=b'{"task": "\\ud800", "feature": "a"}', headers=json_type),
        ),
        "NUL in the path": (400, target.call("GET", "/v1/runs/a%00b")),
        "a bad query": (422, target.call("GET", f"/v1/runs?limit={word}")),
        "too large": (413, target.call("POST", "/v1/runs", content=b" " * 50_000_001, headers=json_type)),
    }  # fmt: skip
    for what, (expected, answer) in answers.items():
        # No JSON at all or no valid field: refused by the parser or by the schema, both the caller's error.
        by_parser = what in {"NaN", "a lone surrogate"} and answer.status_code == 400
        _is_problem(proof, what, answer, 400 if by_parser else expected, word)
    allowed = answers["no such method"][1].headers["Allow"]
    proof.holds("shape", {"GET", "POST"} <= {part.strip() for part in allowed.split(",")}, allowed)


@control("ERR-01", cases=40)
def test_a_bug_and_a_broken_store_have_the_same_shape(proof: Proof, new_world: NewWorld) -> None:
    with new_world() as world:
        who, admin = world.people(["probe_reader"], ["probe_admin"])
        with proof.positive("a run succeeds"):
            assert world.run(who, final()).state["state"] == "succeeded"
        _is_problem(proof, "a bug in a route", world.service.call(who, "GET", "/v1/probe/crash"), 500)
        with world.broken("model_calls"):
            _is_problem(proof, "a broken store", world.service.call(who, "GET", "/v1/usage"), 500)
        cap = {"scope": "tenant", "limit_usd": "0"}
        assert world.service.call(admin, "PUT", "/v1/budgets", json=cap).status_code == 200
        _is_problem(proof, "no budget", world.service.start_run(who, "x", feature="probe"), 402)
        for code in (400, 401, 403, 404, 429, 500, 503):
            [other] = world.people(["probe_reader"])
            ran = world.run(other, status(code, message="upstream said SELECT 1 in /app/main.py"))
            error = ran.state["error"] or {"code": "", "detail": ""}
            proof.holds("shape", ran.state["state"] == "failed" and error["code"] in CATALOGUE, (code, error))
            proof.holds("no-internals", "upstream" not in str(ran.state), error)


STORES = ("members", "api_keys", "approvals", "tool_calls", "audit_events", "audit_heads", "switches")
BUDGETS = ("budget_windows", "budget_caps", "model_calls")


@control("ERR-06", cases=28)
def test_without_its_stores_the_service_does_nothing(proof: Proof, new_world: NewWorld) -> None:
    with new_world() as world:
        [who] = world.people(["probe_writer"])
        with proof.positive("with every store there, a tool is called and a model is paid"):
            ran = world.run(who, calls("probe_lookup", {"query": "a"}), final())
            assert len(world.effects_of(ran)) == 1
            assert ran.state["usage"]["model_calls"] == 2
        for table in (*STORES, *BUDGETS):
            if table in STORES:
                ran = _while_the_model_thinks(world, who, table)
                proof.same("no-effect", world.effects_of(ran), [], f"{table} gone:")
            else:
                ran = _while_the_tool_works(world, who, table)
                proof.same("no-paid-call", len(ran.script.seen), 1, f"{table} gone, requests at the provider:")
            recovered = world.run(who, calls("probe_lookup", {"query": "b"}), final())
            proof.same("recovers", recovered.state["state"], "succeeded", f"after {table} came back:")
        for table in ("audit_events", "budget_windows", "switches", "api_keys"):
            before = len(world.model.ledger)
            with world.broken(table):
                refused = world.service.start_run(who, "x", feature="probe")
            proof.holds("not-accepted", refused.status_code >= 500, f"{table} gone: {refused.status_code}")
            proof.same("not-accepted", len(world.model.ledger), before, f"{table} gone, requests at the provider:")


def _while_the_model_thinks(world: World, who: Person, table: str) -> Ran:
    """A run whose store goes away before the model asks for a tool."""
    tool, arguments = ("probe_write", {"text": "x"}) if table == "approvals" else ("probe_lookup", {"query": "a"})
    with ExitStack() as gone:

        def take_away(_: Body) -> Any:
            gone.enter_context(world.broken(table))
            return calls(tool, arguments)

        return _watched(world, who, take_away, final())


def _while_the_tool_works(world: World, who: Person, table: str) -> Ran:
    """A run whose ledger goes away between its first model call, which is settled, and its second."""
    with ExitStack() as gone:
        world.effects.on_arrival = lambda _: gone.enter_context(world.broken(table))
        try:
            return _watched(world, who, calls("probe_lookup", {"query": "a"}), final())
        finally:
            world.effects.on_arrival = None


def _watched(world: World, who: Person, *answers: Any) -> Ran:
    """Start a run and give the service two seconds to do what it should not."""
    ran = world.start(who, *answers)
    ran.state = {"id": ran.answer.json()["id"]}
    time.sleep(2)
    return ran
