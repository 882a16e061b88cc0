"""Gate 2, access: can the right user access only the right resources?"""

import hashlib
import time
import tomllib
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx2
from itsdangerous import URLSafeTimedSerializer

from app.console.session import COOKIE
from app.errors import Forbidden
from app.identity import tokens
from gates.conftest import NewWorld, Target
from gates.proof import Proof, control
from gates.rig.databases import NewDatabase
from gates.rig.people import Person
from gates.rig.permissions import DECLARED
from gates.rig.provider import Body, calls
from gates.rig.routes import Route, all_routes
from gates.rig.world import World, final

KNOWN_PUBLIC = {
    "/", "/livez", "/readyz", "/openapi.json", "/console/style.css", "/console/icon.svg",
    "/console/sign-in", "/console/sign-in/provider", "/console/signed-in",
}  # fmt: skip
# What a route that writes to one object takes, by the end of its path; others take a reason.
WHY = {"reason": "not mine to say"}
BODIES: dict[str, dict[str, Any]] = {
    "decision": {**WHY, "decision": "approve", "digest": ""},
    "resolution": {**WHY, "outcome": "happened"},
    "rotation": {},
    "key-claims": {},
    "{member_id}": {"disabled": True},
    "{tenant_id}": {"tier": None},
}
MALFORMED = ["Bearer", "Bearer x", "Basic c3ZjOng=", "Bearer null", "Bearer svc_test_aaaaaaaaaaaa_" + "A" * 43]


def _guarded() -> list[Route]:
    return [route for route in all_routes() if not route.is_public]


def _ask(target: Target, route: Route, headers: dict[str, str]) -> httpx2.Response:
    body: dict[str, Any] = {} if route.method == "GET" else {"data": {"x": "y"}} if route.is_console else {"json": {}}
    return target.call(route.method, route.at(), key="", headers=headers, **body)


@control("AUT-01", cases=100)
def test_no_route_answers_without_a_valid_credential(proof: Proof, target: Target) -> None:
    routes = _guarded()
    with proof.positive("a valid key is let in"):
        assert target.call("GET", "/v1/runs").status_code == 200
    opened = {route.path for route in all_routes() if route.is_public} - KNOWN_PUBLIC
    proof.same("no-credential", opened, set(), "public without anybody having meant it:")
    for route in routes:
        refused = _ask(target, route, {})
        where = f"{route.method} {route.path}"
        allowed = {303} if route.is_console else {401}
        proof.holds("no-credential", refused.status_code in allowed, f"{where} answered {refused.status_code}")
        for credential in MALFORMED:
            answer = _ask(target, route, {"Authorization": credential})
            proof.holds("malformed", answer.status_code in allowed, f"{where} {credential}: {answer.status_code}")


@control("AUT-01", cases=8)
def test_a_credential_that_is_no_longer_one_is_refused(proof: Proof, new_world: NewWorld) -> None:
    with new_world() as world:
        member, leaver, admin = world.people(["probe_reader"], ["probe_reader"], ["probe_admin"])

        def status(token: str) -> int:
            return world.service.call(None, "GET", "/v1/runs", headers={"Authorization": f"Bearer {token}"}).status_code

        with proof.positive("each key works at first"):
            assert status(member.key) == status(leaver.key) == 200
        *name, secret = member.key.split("_", 3)
        others = [token.split("_", 3)[3] for token in (tokens.generate("test").token, leaver.key)]
        for wrong in (secret.swapcase(), *others):
            proof.same("wrong-secret", status("_".join([*name, wrong])), 401)
        keys = world.service.call(admin, "GET", "/v1/keys").json()["items"]
        [key_id] = [key["id"] for key in keys if key["member_id"] == leaver.member_id]
        _forged_session(proof, world, leaver.member_id, key_id)
        assert world.service.call(admin, "DELETE", f"/v1/keys/{key_id}").status_code == 204
        proof.same("revoked", status(leaver.key), 401)
        world.clock.advance(timedelta(days=91))
        proof.same("expired", status(member.key), 401)


def _forged_session(proof: Proof, world: World, member_id: str, key_id: str) -> None:
    """A console session is worth as much as its signature."""

    def opens(secret: str) -> bool:
        value = URLSafeTimedSerializer(secret, salt="console").dumps(
            {"member": member_id, "key": key_id, "csrf": "x" * 32, "started": time.time()}
        )
        return world.service.call(None, "GET", "/console", headers={"Cookie": f"{COOKIE}={value}"}).status_code == 200

    with proof.positive("a session that the service signed is let in"):
        assert opens(world.canaries.values["session-secret"])
    for secret in ("", "guess", world.canaries.values["session-secret"] + "x"):
        proof.holds("wrong-secret", not opens(secret), "a session signed by somebody else is let in")


def _two_tenants(proof: Proof, world: World) -> None:
    roles = (["probe_writer"], ["probe_approver"], ["probe_admin", "probe_approver", "probe_reader"])
    mine, theirs = world.people(*roles), world.people(*roles)
    ran = world.run(mine[0], calls("probe_write", {"text": "x"}), final(), until=("waiting",))
    question = world.question(mine[1], ran)
    [key, *_] = world.service.call(mine[2], "GET", "/v1/keys").json()["items"]
    [(call,)] = world.sql("SELECT id FROM tool_calls WHERE run_id = ?", ran.id)
    own = {
        "run_id": ran.id,
        "approval_id": question["id"],
        "key_id": key["id"],
        "call_id": call,
        "member_id": mine[0].member_id,
    }
    with proof.positive("the owners see their own"):
        assert world.service.call(mine[0], "GET", f"/v1/runs/{ran.id}").status_code == 200
        assert world.service.pending(mine[1], ran.id) == [question]
        listed = (
            world.service.call(mine[2], "GET", "/v1/keys").text + world.service.call(mine[0], "GET", "/v1/runs").text
        )
        assert key["id"] in listed
        assert ran.id in listed
    for route in _guarded():
        if route.is_console:
            continue
        body = dict(BODIES.get(route.path.rpartition("/")[2], WHY))
        if "digest" in body:
            body["digest"] = question["digest"]
        if route.parameters and route.parameters != ["name"]:
            _like_missing(proof, world, theirs, route, own, body)
        elif route.method == "GET":
            for who in theirs:
                seen = world.service.call(who, "GET", route.at(name="runs")).text
                leaked = [value for value in (*own.values(), ran.script.token) if value in seen]
                proof.same("foreign-list", leaked, [], f"GET {route.path}:")
    used = world.service.call(theirs[2], "GET", "/v1/usage").json()
    proof.same("foreign-list", used["model_calls"], 0, "another tenant's use is counted as ours:")
    _changed_nothing(proof, world, mine, theirs, own)


def _like_missing(
    proof: Proof, world: World, theirs: list[Person], route: Route, own: dict[str, str], body: dict[str, Any]
) -> None:
    """A stranger gets the same answer for the owner's object as for one that nobody has."""
    verb = {"GET": "foreign-read", "DELETE": "foreign-delete"}.get(route.method, "foreign-write")
    values = {name: own.get(name, own["run_id"]) for name in route.parameters}
    options: dict[str, Any] = {"json": body} if route.method not in {"GET", "DELETE"} else {}
    for who in theirs:
        foreign = world.service.call(who, route.method, route.at(**values), **options)
        missing = world.service.call(who, route.method, route.at(), **options)
        where = f"{route.method} {route.path} as {who.principal.roles}:"
        proof.holds(verb, foreign.status_code in {403, 404}, f"{where} {foreign.status_code}")
        proof.same(verb, _told(foreign), _told(missing), where)


def _told(answer: httpx2.Response) -> tuple[int, dict[str, Any]]:
    body = answer.json()
    told = body.get("error", body)  # within it, where clients of OpenAI's interface are answered
    return answer.status_code, {name: value for name, value in told.items() if name != "request_id"}


def _changed_nothing(proof: Proof, world: World, mine: list[Person], theirs: list[Person], own: dict[str, str]) -> None:
    """After all of the stranger's attempts the owner's objects are as they were."""
    proof.same("foreign-write", len(world.service.pending(mine[1], own["run_id"])), 1, "the question is still open:")
    keys = {key["id"]: key for key in world.service.call(mine[2], "GET", "/v1/keys").json()["items"]}
    proof.same("foreign-delete", keys[own["key_id"]]["revoked_at"], None, "the key is still valid:")
    cap = {"scope": "tenant", "limit_usd": "0.000001"}
    assert world.service.call(theirs[2], "PUT", "/v1/budgets", json=cap).status_code == 200
    items = world.service.call(mine[0], "GET", "/v1/budgets").json()["items"]
    [limit] = [item["limit_usd"] for item in items if (item["scope"], item["period"]) == ("tenant", "month")]
    proof.holds("foreign-write", limit != cap["limit_usd"], "another tenant set our cap")
    stolen = world.service.call(theirs[2], "POST", "/v1/keys", json={"member_id": mine[0].member_id})
    proof.same("foreign-write", stolen.status_code, 404, "a key for another tenant's member:")


@control("AUT-03", cases=40)
def test_another_tenant_s_objects_look_like_missing_ones(proof: Proof, world: World) -> None:
    _two_tenants(proof, world)


@control("AUT-03", cases=40, slow=True)
def test_another_tenant_s_objects_look_like_missing_ones_on_postgresql(
    proof: Proof, new_world: NewWorld, new_postgres: NewDatabase
) -> None:
    with new_world(new_postgres()) as world:
        _two_tenants(proof, world)


@control("AUT-04", cases=7)
def test_a_tool_runs_with_the_authority_of_who_asked(proof: Proof, world: World) -> None:
    reader, writer, approver, admin = world.people(
        ["probe_reader"], ["probe_writer"], ["probe_approver"], ["probe_admin"]
    )
    write = calls("probe_write", {"text": "x"})
    with proof.positive("who may write, writes after approval"):
        ran = world.run(writer, write, final(), until=("waiting",))
        world.service.decide(approver, world.question(approver, ran))
        world.settled(writer, ran)
        [effect] = world.effects_of(ran)
    proof.same("on-behalf-of", (effect.member_id, effect.tenant_id), (writer.member_id, writer.tenant_id))
    proof.same("on-behalf-of", effect.permissions, writer.principal.permissions)
    ran = world.run(reader, calls("probe_lookup", {"query": "a"}), final())
    proof.same("on-behalf-of", world.effects_of(ran)[0].permissions, reader.principal.permissions)
    ran = world.run(reader, write, final(), until=("waiting", "succeeded", "failed"))
    proof.same("refused-without-permission", (ran.state["state"], world.effects_of(ran)), ("succeeded", []))
    narrow = _scoped(world, admin, writer, ["runs:read", "runs:write"])
    ran = world.run(narrow, calls("probe_lookup", {"query": "a"}), final())
    proof.same("scopes-narrow", (ran.state["state"], world.effects_of(ran)), ("succeeded", []))

    def leave(_: Body) -> Any:
        """In the middle of the run the writer's key is revoked; then the model calls a tool."""
        _revoke(world, admin, writer)
        return calls("probe_lookup", {"query": "b"}, "call_2")

    ran = world.start(writer, calls("probe_lookup", {"query": "a"}), leave, final())
    world.settled(reader, ran)
    proof.same("asked-per-call", [effect.arguments["query"] for effect in world.effects_of(ran)], ["a"])

    def demoted(_: Body) -> Any:
        """In the middle of the run the reader loses the role that lets them look things up."""
        world.sql("UPDATE members SET roles = ? WHERE id = ?", '["probe_starter"]', reader.member_id)
        return calls("probe_lookup", {"query": "b"}, "call_2")

    ran = world.run(reader, calls("probe_lookup", {"query": "a"}), demoted, final())
    proof.same("asked-per-call", [effect.arguments["query"] for effect in world.effects_of(ran)], ["a"])


def _scoped(world: World, admin: Person, member: Person, scopes: list[str] | None) -> Person:
    body = {"member_id": member.member_id} | ({"scopes": scopes} if scopes is not None else {})
    issued = world.service.call(admin, "POST", "/v1/keys", json=body)
    assert issued.status_code == 201
    return Person(member.name, member.tenant_id, member.member_id, issued.json()["key"], member.principal)


def _revoke(world: World, admin: Person, member: Person) -> None:
    for key in world.service.call(admin, "GET", "/v1/keys").json()["items"]:
        if key["member_id"] == member.member_id:
            world.service.call(admin, "DELETE", f"/v1/keys/{key['id']}")


def _detail(answer: httpx2.Response) -> str:
    """What a problem says, in the shape of this API or of the chat interface."""
    problem = answer.json()
    return str(problem["error"]["message"] if "error" in problem else problem["detail"])


@control("AUT-06", cases=120)
def test_what_each_role_may_call_is_what_is_declared(proof: Proof, world: World) -> None:
    declared: dict[str, list[str]] = tomllib.loads((world.config / "roles.toml").read_text())["roles"]
    people = dict(zip(declared, world.people(*([role] for role in declared)), strict=True))
    with proof.positive("a role that may read runs reads them"):
        reader = next(role for role, granted in declared.items() if "runs:read" in granted)
        assert world.service.call(people[reader], "GET", "/v1/runs").status_code == 200
    for route in _guarded():
        if route.is_console:
            continue
        name = f"{route.method} {route.path}"
        needed = DECLARED.get(name, route.permission)
        for role, granted in declared.items():
            options: dict[str, Any] = {} if route.method in {"GET", "DELETE"} else {"json": {}}
            answer = world.service.call(people[role], route.method, route.at(name=uuid4().hex), **options)
            # A permission that is missing is refused in these words; a route may ask for more (a sign-in) in its own.
            missing = answer.status_code == 403 and _detail(answer) == Forbidden.row.title
            permitted = answer.status_code != 401 and not missing
            proof.same("declared-matrix", permitted, needed in granted, f"{role}: {name} ({answer.status_code})")
    nobody, *_ = world.people(["probe_starter"])
    world.sql("UPDATE members SET roles = ? WHERE id = ?", '["no_such_role"]', nobody.member_id)
    for route in _guarded():
        if route.method == "GET" and not route.is_console:
            answer = world.service.call(nobody, "GET", route.at())
            proof.same("undeclared-role", answer.status_code, 403, route.path)


@control("AUT-09", cases=12)
def test_a_key_is_kept_as_a_hash_shown_once_scoped_and_expires(proof: Proof, new_world: NewWorld) -> None:
    with new_world() as world:
        admin, member = world.people(["probe_admin"], ["probe_reader"])
        body = {"member_id": member.member_id, "scopes": ["runs:read"], "days": 1}
        issued = world.service.call(admin, "POST", "/v1/keys", json=body).json()
        headers = {"Authorization": f"Bearer {issued['key']}"}

        def status(path: str) -> int:
            return world.service.call(None, "GET", path, headers=headers).status_code

        with proof.positive("the new key works within its scope"):
            assert status("/v1/runs") == 200
        for key in (issued["key"], member.key, admin.key):
            secret = key.split("_", 3)[3].encode()
            store = world.store()
            proof.holds("not-stored", secret not in store, "the secret of a key is in the database")
            proof.holds("not-stored", hashlib.sha256(secret).hexdigest().encode() in store, "what is kept is no hash")
        listed = world.service.call(admin, "GET", "/v1/keys").text
        proof.holds("shown-once", issued["key"].split("_", 3)[3] not in listed, "a key is listed in full")
        proof.holds("shown-once", "hash" not in listed, "a key's hash is listed")
        proof.same("scope", status("/v1/usage"), 403)
        wider = world.service.call(None, "GET", "/v1/keys", headers=headers)
        proof.same("scope", wider.status_code, 403)
        rotated = world.service.call(admin, "POST", f"/v1/keys/{issued['id']}/rotation", json={}).json()["key"]
        after = {"Authorization": f"Bearer {rotated}"}
        statuses = [
            world.service.call(None, "GET", path, headers=after).status_code for path in ("/v1/runs", "/v1/usage")
        ]
        proof.same("scope", statuses, [200, 403], "a rotated key keeps its scopes:")
        world.clock.advance(timedelta(days=1, minutes=1))
        refused = world.service.call(None, "GET", "/v1/runs", headers=headers)
        proof.same("expiry", (refused.status_code, refused.json().get("code")), (401, "auth.expired"))
