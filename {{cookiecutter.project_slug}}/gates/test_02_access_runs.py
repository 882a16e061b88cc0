"""Gate 2, access: what a client cannot set, and how far the authority of a run and of its delegates goes."""

import json
import tomllib
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

import pytest

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.events import streaming
from gates.rig.people import Person
from gates.rig.provider import Body, calls
from gates.rig.routes import all_routes
from gates.rig.world import ALLOW_EVERYTHING, World, final

KEY = {"Idempotency-Key": "access-runs"}
FORBIDDEN = (
    "tenant_id", "member_id", "owner", "role", "roles", "permissions", "granted", "state", "approved", "budget",
    "cost_usd", "decided_by", "id", "created_at",
)  # fmt: skip
INTERNAL = {
    "tenant_id", "granted", "history", "request_digest", "idempotency_key", "secret_hash", "key_id", "starts", "used",
    "previous_hash", "segment", "document_text", "call_id",
}  # fmt: skip
BY_SIGN_IN: dict[tuple[str, str], dict[str, Any]] = {  # what only somebody who signs in at the provider is given
    ("POST", "/v1/keys/own"): {"days": 1},
    ("POST", "/v1/key-claim-redemptions"): {"claim": f"claim_{'A' * 43}"},
}
NOT_HERE: dict[tuple[str, str], dict[str, Any]] = {  # what the rig's provider has no model for
    ("POST", "/v1/embeddings"): {"model": "text-embedding-3-small", "input": "x"},
}
ELEVATION = {"role": "probe_nothing", "minutes": 5, "reason": "a drill"}
TABLES = ("runs", "approvals", "tool_calls", "api_keys", "members", "budget_caps", "switches", "elevations")


def _bodies(
    who: Person, spare: Person, approval: Any, call_id: str, run_id: str, elevation: str
) -> dict[tuple[str, str], dict[str, Any]]:
    """A good body for every route that takes one. A route without an entry here fails the proof."""
    decision = {"decision": "deny", "digest": approval["digest"], "reason": "a drill"}
    return {
        ("POST", "/v1/runs"): {"feature": "probe", "task": "x", "limits": {"model_calls": 3}},
        ("POST", f"/v1/runs/{run_id}/cancel"): {"reason": "a drill"},
        ("POST", "/v1/chat/completions"): {"model": "standard", "messages": [{"role": "user", "content": "x"}]},
        ("POST", "/v1/responses"): {"model": "standard", "input": "x"},
        ("POST", "/v1/keys"): {"member_id": who.member_id},
        ("POST", f"/v1/keys/{spare.principal.key_id}/rotation"): {"overlap_hours": 1},
        ("POST", f"/v1/members/{who.member_id}/key-claims"): {"days": 1},  # 409: they are linked to no provider
        ("POST", "/v1/members"): {"name": uuid4().hex, "roles": ["probe_reader"]},
        ("PATCH", f"/v1/members/{spare.member_id}"): {"disabled": False},
        ("POST", "/v1/tenants"): {"name": uuid4().hex},
        ("PATCH", f"/v1/tenants/{who.tenant_id}"): {"tier": None},
        ("PUT", "/v1/budgets"): {"scope": "tenant", "limit_usd": "20"},
        ("PUT", f"/v1/switches/tenant:{who.tenant_id}"): {"state": "off", "reason": "a drill"},
        ("POST", f"/v1/approvals/{approval['id']}/decision"): decision,
        ("POST", "/v1/approvals/decisions"): {"items": [{"id": approval["id"], **decision}]},
        ("POST", f"/v1/tool-calls/{call_id}/resolution"): {"outcome": "happened", "reason": "a drill"},
        ("POST", "/v1/elevations"): ELEVATION,
        ("POST", f"/v1/elevations/{elevation}/decision"): {"decision": "refuse", "reason": "a drill"},
    }


def _elevated(world: World, asker: Person) -> str:
    """A question of one who may ask to be lent a role."""
    answer = world.service.call(asker, "POST", "/v1/elevations", json=ELEVATION)
    return str(answer.json().get("id", ""))


def _with(world: World, permission: str) -> str:
    """A role of the product's own that has it: the rig's have no loans."""
    declared: dict[str, list[str]] = tomllib.loads((world.config / "roles.toml").read_text())["roles"]
    return next(role for role, granted in declared.items() if permission in granted)


def _codes(world: World, people: Sequence[Person]) -> set[str]:
    """What is answered to bodies that are understood, where nothing is there to answer them."""
    answers = [
        world.service.call(who, method, path, json=body, headers=KEY)
        for (method, path), body in NOT_HERE.items()
        for who in people
    ]
    return {answer.json()["error"]["code"] for answer in answers}


@pytest.mark.timeout(2_800)
@control("AUT-07", cases=188)
def test_clients_set_nothing_that_is_not_theirs_and_see_nothing_of_the_inside(proof: Proof, world: World) -> None:
    loans = [_with(world, "elevations:request")], [_with(world, "elevations:decide")]
    mine = ["probe_writer", "probe_chatter", "probe_holder"]
    roles = mine, ["probe_admin"], ["platform_operator"], ["probe_approver"], *loans
    *people, spare = world.people(*roles, ["probe_reader"])
    writer, _, _, approver, asker, _ = people
    ran = world.run(writer, calls("probe_write", {"text": "x"}), final(), until=("waiting",))
    approval = world.question(approver, ran)
    [(call_id,)] = world.sql("SELECT id FROM tool_calls WHERE run_id = ?", ran.id)
    bodies = _bodies(writer, spare, approval, call_id, ran.id, _elevated(world, asker))
    with proof.positive("the same bodies without those fields are understood"):
        for (method, path), body in bodies.items():
            answers = {world.service.call(who, method, path, json=body, headers=KEY).status_code for who in people}
            assert answers & {200, 201, 202, 409, 410}, (method, path, answers)
        for (method, path), body in BY_SIGN_IN.items():  # with a key they are understood and refused
            answers = {world.service.call(who, method, path, json=body, headers=KEY).status_code for who in people}
            assert answers <= {403, 404}, (method, path, answers)
        assert _codes(world, people) == {"auth.forbidden", "model.unknown"}
    templates = {(r.method, r.path) for r in all_routes() if r.method != "GET" and r.path.startswith("/v1/")}
    without_body = {(method, path) for method, path in templates if method == "DELETE"}
    bodies |= BY_SIGN_IN | NOT_HERE
    proof.same("forbidden-field", len(templates - without_body), len(bodies), "routes that take a body:")
    before = {table: world.sql(f"SELECT * FROM {table}") for table in TABLES}
    for (method, path), body in bodies.items():
        for name, sent in _widened(body):
            seen = {world.service.call(who, method, path, json=sent, headers=KEY).status_code for who in people}
            proof.holds("forbidden-field", seen <= {403, 422} and 422 in seen, f"{method} {path} with {name}: {seen}")
    after = {table: world.sql(f"SELECT * FROM {table}") for table in TABLES}
    proof.same("state-unchanged", [t for t in TABLES if before[t] != after[t]], [], "changed by what was refused:")
    readable = [r for r in all_routes() if r.method == "GET" and r.path.startswith("/v1/") and "events" not in r.path]
    for who in people:
        for route in readable:
            answer = world.service.call(who, "GET", route.at(run_id=ran.id))
            names = set(_names(answer.json())) if answer.status_code == 200 else set()
            proof.same("no-internal-field", names & INTERNAL, set(), route.path)
    with streaming(world.service, writer, ran.id) as stream:
        for event in (stream.wait("run.cancelled"), stream.events[0]):
            proof.same("no-internal-field", set(_names(event.data)) & INTERNAL, set(), event.name)


def _widened(body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The body with one forbidden field more, in every place where an object stands."""
    for name in FORBIDDEN:
        if name not in body:
            yield name, {**body, name: "x"}
        if "items" in body and name not in body["items"][0]:
            yield f"items/{name}", {**body, "items": [{**body["items"][0], name: "x"}]}
        if "limits" in body and name != "cost_usd":
            yield f"limits/{name}", {**body, "limits": {**body["limits"], name: "x"}}


def _names(value: Any) -> list[str]:
    match value:
        case dict():
            return [*value, *(name for item in value.values() for name in _names(item))]
        case list():
            return [name for item in value for name in _names(item)]
    return []


@control("AUT-08", cases=15)
def test_what_is_taken_away_is_gone_in_the_middle_of_a_run(proof: Proof, world: World) -> None:
    [admin] = world.people(["probe_admin"])
    with proof.positive("with everything in place, both calls happen"):
        [who] = world.people(["probe_writer"])
        two = [calls("probe_lookup", {"query": f"q{n}"}, f"call_{n}") for n in range(2)]
        assert len(world.effects_of(world.run(who, *two, final()))) == 2
    for what in ("key revoked", "role taken", "member disabled"):
        who, approver, admin = world.people(["probe_writer"], ["probe_approver"], ["probe_admin"])

        def take(what: str = what, who: Person = who, admin: Person = admin) -> None:
            _taken(world, what, who, admin)

        def answer(_: Body, take: Any = take) -> Any:
            take()
            return calls("probe_lookup", {"query": "after"}, "call_after")

        ran = world.start(who, calls("probe_lookup", {"query": "before"}), answer, final())
        run_id = ran.answer.json()["id"]
        ended = world.ended(run_id)
        effects = [effect.arguments["query"] for effect in world.effects.of(run_id)]
        proof.same("mid-run", effects, ["before"], f"{what}, the run ended as {ended}:")
        who, approver, admin = world.people(["probe_writer"], ["probe_approver"], ["probe_admin"])
        ran = world.run(who, calls("probe_write", {"text": "x"}), final(), until=("waiting",))
        question = world.question(approver, ran)
        _taken(world, what, who, admin)
        assert world.service.decide(approver, question).status_code == 200
        world.ended(ran.id)
        proof.same("mid-run", world.effects.of(ran.id), [], f"{what} while an approval was waited for:")
        _mid_stream(proof, world, what)


def _mid_stream(proof: Proof, world: World, what: str) -> None:
    who, admin = world.people(["probe_writer"], ["probe_admin"])
    ran = world.run(who, calls("probe_write", {"text": "x"}), final(), until=("waiting",))
    with streaming(world.service, who, ran.id) as stream:
        stream.wait("approval.asked")
        _taken(world, what, who, admin)
        last = stream.end(seconds=20)
    proof.same("mid-stream", last.name, "stream.interrupted", what)
    proof.holds("mid-stream", last.data["code"].startswith("auth."), last.data)
    answer = world.service.call(who, "GET", f"/v1/runs/{ran.id}")
    proof.holds("mid-stream", answer.status_code in {401, 403}, answer.status_code)


def _taken(world: World, what: str, who: Person, admin: Person) -> None:
    match what:
        case "key revoked":
            keys = world.service.call(admin, "GET", "/v1/keys").json()["items"]
            [key] = [key["id"] for key in keys if key["member_id"] == who.member_id]
            assert world.service.call(admin, "DELETE", f"/v1/keys/{key}").status_code == 204
        case "role taken":
            world.sql("UPDATE members SET roles = ? WHERE id = ?", json.dumps(["probe_nothing"]), who.member_id)
        case "member disabled":
            world.sql("UPDATE members SET disabled_at = ? WHERE id = ?", "2026-01-01 00:00:00.000000", who.member_id)


@control("AUT-10", cases=12)
def test_a_delegate_has_less_than_who_asked_it(proof: Proof, new_world: NewWorld) -> None:
    with new_world(policy=ALLOW_EVERYTHING) as world:
        runner, narrow = world.people(["hazard_runner"], ["hazard_only"])
        look = calls("probe_lookup", {"query": "a"}, "call_look")

        def asked(who: Person, *replies: Any) -> Any:
            child = world.model.script(*replies, final("answer"))
            ran = world.run(who, calls("ask_scout", {"task": child.task("q")}), final(), feature="hazard")
            return ran, child

        with proof.positive("a delegate reads for its run"):
            ran, _ = asked(runner, look)
            [effect] = world.effects_of(ran)
            assert (effect.tool, effect.run_id, effect.member_id) == ("probe_lookup", ran.id, runner.member_id)
        acts = {
            "probe_write": {"text": "x"}, "probe_delete": {"item": "x"}, "hazard_store": {"text": "x"},
            "hazard_slow": {"query": "a"},
        }  # fmt: skip
        for tool, arguments in acts.items():
            ran, child = asked(runner, calls(tool, arguments, "call_act"))
            proof.same("own-tools-only", world.effects_of(ran), [], f"a delegate calls {tool}:")
            offered = {t["function"]["name"] for t in child.requests[0]["tools"]}
            proof.holds("own-tools-only", tool not in offered, f"{tool} is offered to the delegate: {offered}")
        proof.holds(
            "parents-authority", effect.permissions <= {"probe:read", "hazard:run", "runs:write"}, effect.permissions
        )
        proof.same("parents-authority", effect.tenant_id, runner.tenant_id)
        ran, child = asked(narrow, look)
        proof.same("parents-authority", world.effects_of(ran), [], "the member may not look up, nor may the delegate:")
        offered = {t["function"]["name"] for t in child.requests[0]["tools"]}
        proof.holds("parents-authority", "probe_lookup" not in offered, offered)
