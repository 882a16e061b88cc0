"""Gate 3, validation: every answer is one that the published contract announces."""

import re
from typing import Any
from uuid import uuid4

import httpx2
import jsonschema

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.people import Person
from gates.rig.provider import calls
from gates.rig.routes import all_routes
from gates.rig.world import World, final

BODIES: dict[str, Any] = {
    "POST /v1/runs": {"feature": "probe", "task": "x"},
    "POST /v1/keys": {"member_id": "<member>"},
    "POST /v1/members": {"name": "Ada", "roles": ["probe_reader"]},
    "PATCH /v1/members/{member_id}": {"disabled": False},
    "POST /v1/tenants": {"name": "a tenant"},
    "PUT /v1/budgets": {"scope": "tenant", "limit_usd": "10"},
    "PUT /v1/switches/{name:path}": {"state": "off", "reason": "a drill"},
    "POST /v1/approvals/{approval_id}/decision": {"decision": "deny", "digest": "<digest>", "reason": "a drill"},
    "POST /v1/approvals/decisions": {
        "items": [{"id": "<approval>", "decision": "deny", "digest": "<digest>", "reason": "a drill"}]
    },
    "POST /v1/tool-calls/{call_id}/resolution": {"outcome": "happened", "reason": "a drill"},
    "POST /v1/runs/{run_id}/cancel": {"reason": "a drill"},
}  # fmt: skip
ROLES = ["probe_writer", "probe_approver", "probe_admin", "probe_reader", "platform_operator"]


class Contract:
    """The published document, asked about answers."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.operations = {
            (method.upper(), re.compile("^" + re.sub(r"\{[^}]+\}", "[^/]+", path) + "$")): operation
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        }

    def breach(self, answer: httpx2.Response) -> str:
        """What of the answer the contract does not announce; empty where all of it is."""
        path, asked = answer.request.url.path, answer.request.method
        # RFC 9110, 9.3.2: HEAD is answered as GET is, but for the content, or not offered.
        meant = "GET" if asked == "HEAD" and answer.status_code != 405 else asked
        found = [op for (method, form), op in self.operations.items() if method == meant and form.match(path)]
        if not found:
            return "no such operation"
        told = found[0]["responses"].get(str(answer.status_code))
        if told is None:
            return f"status {answer.status_code} is not announced"
        if "$ref" in told:
            told = self.document["components"]["responses"][told["$ref"].rpartition("/")[2]]
        return "" if asked == "HEAD" and not answer.content else self._unlike(answer, told)

    def _unlike(self, answer: httpx2.Response, told: dict[str, Any]) -> str:
        content = told.get("content", {})
        if not answer.content and not content:
            return ""
        kind = answer.headers.get("content-type", "").partition(";")[0]
        if kind not in content:
            return f"{kind} is not announced for {answer.status_code}"
        missing = [name for name in told.get("headers", {}) if name not in answer.headers and "RateLimit" not in name]
        if missing:
            return f"{missing} is announced and missing"
        if not kind.endswith("json"):
            return ""
        schema = {**content[kind]["schema"], "components": self.document["components"]}
        errors = list(jsonschema.Draft202012Validator(schema).iter_errors(answer.json()))
        return "; ".join(f"{error.json_path}: {error.message[:120]}" for error in errors)


def _filled(value: Any, known: dict[str, str]) -> Any:
    match value:
        case dict():
            return {name: _filled(inner, known) for name, inner in value.items()}
        case list():
            return [_filled(inner, known) for inner in value]
        case str():
            return known.get(value, value)
    return value


def _ask_everything(world: World, who: Person, reader: Person, known: dict[str, str]) -> list[httpx2.Response]:
    """Every route as it is meant, and in the ways people get it wrong."""
    answers = []
    for route in all_routes():
        if route.is_console or route.path.startswith("/console") or route.path in {"/", "/openapi.json"}:
            continue
        body = _filled(BODIES.get(f"{route.method} {route.path}"), known)
        key = {"Idempotency-Key": uuid4().hex}
        here = route.at(**{name: known[f"<{name}>"] for name in route.parameters if f"<{name}>" in known})
        query = "?while_connected=false" if here.endswith("/events") else ""
        good: dict[str, Any] = {"headers": key, **({"json": body} if body is not None else {})}
        wrong: dict[str, Any] = {"headers": key, **({"json": {"x": 1}} if body is not None else {})}
        answers += [
            world.service.call(None, route.method, here, **good),
            world.service.call(reader, route.method, here, **good),
            world.service.call(who, route.method, route.at(name="nobody"), **good),
            world.service.call(who, route.method, f"{here}?limit=x&cursor=x&state=x&after=x", **wrong),
            world.service.call(who, route.method, here + query, **good),
        ]
        if body is not None:
            answers.append(world.service.call(who, route.method, here, content=b"{", headers=key))
            typed = {**key, "Content-Type": "application/json"}
            answers.append(world.service.call(who, route.method, here, content=b"{", headers=typed))
            answers.append(world.service.call(who, route.method, here, content=b" " * 1_000_001, headers=typed))
    return answers


@control("VAL-14", cases=150)
def test_every_answer_is_announced_by_the_contract(proof: Proof, new_world: NewWorld) -> None:
    with new_world() as world:
        who, writer, reader = world.people(ROLES, ["probe_writer"], ["probe_starter"])
        document = world.service.call(None, "GET", "/openapi.json").json()
        contract = Contract(document)
        done = world.run(writer, final())
        parked = world.run(writer, calls("probe_write", {"text": "x"}), final(), until=("waiting",))
        question = world.question(who, parked)
        [(call,)] = world.sql("SELECT id FROM tool_calls WHERE run_id = ? LIMIT 1", parked.id)
        keys = world.service.call(who, "GET", "/v1/keys").json()["items"]
        [key] = [item["id"] for item in keys if item["member_id"] == writer.member_id]
        known = {
            "<member>": writer.member_id, "<member_id>": writer.member_id, "<run_id>": done.id, "<key_id>": key,
            "<approval_id>": question["id"], "<approval>": question["id"], "<digest>": question["digest"],
            "<call_id>": str(call), "<name>": "runs",
        }  # fmt: skip
        answers = _ask_everything(world, who, reader, known)
        with proof.positive("most operations did what they are for, and the contract is OpenAPI 3.1"):
            operations = {(a.request.method, a.request.url.path) for a in answers if a.status_code < 300}
            assert len(operations) >= 15
            assert document["openapi"].startswith("3.1")
        for answer in answers:
            where = f"{answer.request.method} {answer.request.url.path} answered {answer.status_code}"
            proof.same("announced", contract.breach(answer), "", where)
        statuses = {answer.status_code for answer in answers}
        proof.holds("all-kinds", {200, 201, 202, 204, 400, 401, 403, 404, 413, 415, 422} <= statuses, sorted(statuses))
        for (method, form), operation in contract.operations.items():
            guarded = form.pattern.startswith("^/v1/")
            proof.same("secured", bool(operation.get("security")), guarded, f"{method} {form.pattern}")
