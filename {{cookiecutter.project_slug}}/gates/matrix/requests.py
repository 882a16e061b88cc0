"""A request for each cell, with bodies that are meant well, and what came of it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from uuid import uuid4

import httpx2

from app.identity import tokens
from gates.matrix.cells import OTHERS, Seen, Whose
from gates.matrix.objects import DIGEST, Store, seeded, without_records
from gates.rig.browser import browser, sign_in
from gates.rig.issuer import Issuer
from gates.rig.people import Person
from gates.rig.plain_http import PLAIN
from gates.rig.probe import FEATURE
from gates.rig.routes import Route
from gates.rig.world import World

WHY = "asked by the matrix"
DECISION = {"decision": "deny", "digest": DIGEST, "reason": WHY}
# `<name>` stands for the id of such an object, <new> for a name that is free.
BODIES: dict[str, dict[str, Any]] = {
    "POST /v1/runs": {"feature": FEATURE.name, "task": "Say something."},
    "POST /v1/runs/{run_id}/cancel": {"reason": WHY},
    "POST /v1/tool-calls/{call_id}/resolution": {"outcome": "happened", "reason": WHY},
    "POST /v1/approvals/{approval_id}/decision": DECISION,
    "POST /v1/approvals/decisions": {"items": [{"id": "<approval_id>", **DECISION}]},
    "POST /v1/chat/completions": {
        "model": "standard",
        "metadata": {"asked": "by the matrix"},
        "service_tier": "auto",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Say something."}]}],
    },
    "POST /v1/responses": {"model": "standard", "input": [{"role": "user", "content": "Say something."}]},
    "POST /v1/embeddings": {"model": "text-embedding-3-small", "input": ["Say something."]},
    "PUT /v1/budgets": {"scope": "tenant", "limit_usd": "17"},
    "POST /v1/keys": {"member_id": "<member_id>"},
    "POST /v1/keys/{key_id}/rotation": {},
    "POST /v1/keys/own": {"days": 1},
    "POST /v1/members/{member_id}/key-claims": {"days": 1},
    "POST /v1/key-claim-redemptions": {"claim": "<claim_code>"},
    "POST /v1/members": {"name": "<new>", "roles": ["<role>"]},
    "PATCH /v1/members/{member_id}": {"disabled": True},
    "POST /v1/tenants": {"name": "<new>"},
    "PATCH /v1/tenants/{tenant_id}": {"tier": "standard"},
    "POST /v1/elevations": {"role": "<another>", "minutes": 5, "reason": WHY},
    "POST /v1/elevations/{elevation_id}/decision": {"decision": "refuse", "reason": WHY},
    "PUT /v1/switches/{name:path}": {"state": "on", "reason": WHY},
}
FORMS: dict[str, dict[str, str]] = {
    "POST /console/sign-out": {},
    "POST /console/approvals": {
        "reason": WHY, "decision:<approval_id>": "deny", "digest:<approval_id>": DIGEST,
    },
    "POST /console/unknown/{call_id}": {"outcome": "happened", "reason": WHY},
    "POST /console/keys": {},
    "POST /console/key-claims": {"claim": "<claim_code>"},
}  # fmt: skip
# Filters that name an object.
QUERIES = {"GET /v1/approvals": {"run_id": "<run_id>"}, "GET /v1/audit": {"subject": "tenant:<tenant_id>"}}
# What a list, or a page, of one's own must show.
SHOWS = {
    "GET /v1/runs": "run_id",
    "GET /v1/runs/{run_id}": "run_id",
    "GET /v1/runs/{run_id}/tool-calls": "call_id",
    "GET /v1/tool-calls/unknown": "call_id",
    "GET /v1/approvals": "approval_id",
    "GET /v1/keys": "key_id",
    "GET /v1/members": "member_id",
    "GET /v1/tenants": "tenant_id",
    "GET /v1/audit": "tenant_id",
}
# What the console's page shows to whom: a heading, or a choice, by the permission it needs.
SECTIONS = {
    "<h1>Waiting for a decision": "approvals:read",
    "<h1>Outcome unknown": "approvals:read",
    'name="decision:': "approvals:decide",
    "<h1>Budget": "usage:read",
    "<h1>Runs": "runs:read",
}
# What no key opens: asked with a sign-in at the provider, about a claim of one's own.
SIGNED_IN = {
    "POST /v1/keys/own", "POST /v1/key-claim-redemptions", "POST /console/keys", "POST /console/key-claims",
}  # fmt: skip
ASKERS = {"DELETE /v1/elevations/{elevation_id}"}  # of what one has asked for oneself
EVERYBODYS = {"GET /v1/models/{model_id:path}": "standard"}  # what a path names there is no tenant's
STREAM = "GET /v1/runs/{run_id}/events"
_NOTICE = re.compile(r'<p class="notice"[^>]*>(.*?)</p>', re.DOTALL)
_CSRF = re.compile(r'name="csrf" value="([^"]+)"')


def names_object(route: Route) -> bool:
    """Whether a request to it says which object it is about: in its path, its body or a filter."""
    name = f"{route.method} {route.path}"
    if name in EVERYBODYS:
        return False
    return bool(route.parameters) or bool(re.search("_(id|code)>", _told(route) + str(QUERIES.get(name, ""))))


def _told(route: Route) -> str:
    """What is sent in the body of a request to it."""
    name = f"{route.method} {route.path}"
    return str(BODIES.get(name, "")) + str(FORMS.get(name, ""))


def filled(value: Any, known: dict[str, str]) -> Any:
    """The same with ids in their places."""
    match value:
        case dict():
            return {filled(name, known): filled(inner, known) for name, inner in value.items()}
        case list():
            return [filled(inner, known) for inner in value]
        case str():
            return re.sub(r"<([a-z_]+)>", lambda found: known[found[1]], value)
    return value


def nothing() -> dict[str, str]:
    """Ids that nothing has."""
    kinds = ("run_id", "call_id", "approval_id", "key_id", "member_id", "elevation_id", "tenant_id", "claim_id")
    return {**{kind: str(uuid4()) for kind in kinds}, "claim_code": tokens.generate_claim()}


@dataclass(frozen=True)
class Answer:
    status: int
    text: str
    problem: dict[str, Any]

    def told(self, known: dict[str, str]) -> tuple[int, str, dict[str, Any]]:
        """What it says, whatever the ids in the question, the number of the request and the sign-in that asks."""
        text = _CSRF.sub('name="csrf"', self.text)
        for value in known.values():
            text = text.replace(value, "<id>").replace(value[-6:], "<id>")
        facts = {name: value for name, value in self.problem.items() if name != "request_id"}
        return self.status, "" if facts else text, facts


@dataclass(frozen=True)
class Asker:
    """Asks for one role, in a tenant of its own, about this tenant's objects and those of another one."""

    world: World
    store: Store
    who: Person | None
    tenant_id: str
    standing: dict[str, str]  # objects of one's own that nothing uses up
    foreign: dict[str, str]
    role_to_give: str
    role_to_ask: str  # another than their own
    may: frozenset[str]  # what is declared for the role
    trusted: Issuer  # where this one signs in, by the id of the member

    def seen(self, route: Route, whose: Whose) -> Seen:
        own = self._own(route)
        known = own if whose == "own" else self.foreign
        before, theirs = self.store.rows(), self.store.rows(self.foreign["tenant_id"])
        answer = self._ask(route, known)
        did = without_records(before) != without_records(self.store.rows())
        hurt = theirs != self.store.rows(self.foreign["tenant_id"])
        like_missing = True
        if whose == "foreign" and names_object(route):
            missing = nothing()
            like_missing = answer.told(known) == self._ask(route, missing).told(missing)
        return Seen(
            answer.status, str(answer.problem.get("code", "")), str(answer.problem.get("detail", "")),
            like_missing=like_missing,
            leaked=self._leaked(route, answer, whose),
            showed=self._showed(route, answer, own),
            did=did, hurt=hurt,
        )  # fmt: skip

    def _own(self, route: Route) -> dict[str, str]:
        uses_up = route.method != "GET" and names_object(route)
        known = seeded(self.store, self.tenant_id) if uses_up else self.standing
        if self.who is not None and f"{route.method} {route.path}" in ASKERS:
            self.store.give(known["elevation_id"], self.who.member_id)
        if self.who is not None and "<claim_code>" in _told(route):
            self.store.give_claim(known["claim_code"], self.who.member_id)
        if f"{route.method} {route.path}" in OTHERS:
            self.store.without_tiers()
        return known

    def _showed(self, route: Route, answer: Answer, own: dict[str, str]) -> bool:
        """What it is about, and of the console's page exactly the parts that the role may see."""
        if route.path == "/console":
            return all((part in answer.text) == (needed in self.may) for part, needed in SECTIONS.items())
        return own.get(SHOWS.get(f"{route.method} {route.path}", ""), "") in answer.text

    def _leaked(self, route: Route, answer: Answer, whose: Whose) -> list[str]:
        """Ids of the other tenant in the answer, but for the one that was asked about."""
        if route.permission in {"tenants:read", "switches:read", "switches:write"}:
            return []  # platform operators see names of tenants and switches, and no content
        asked = set(self.foreign.values()) if whose == "foreign" and names_object(route) else set()
        if answer.status == 200 and route.method == "GET" and route.parameters:
            asked = set()  # an answer about the object itself
        return sorted(value for value in self._foreign_ids - asked if value in answer.text)

    @cached_property
    def _foreign_ids(self) -> set[str]:
        return self.store.ids(self.foreign["tenant_id"])

    def _ask(self, route: Route, known: dict[str, str]) -> Answer:
        name = f"{route.method} {route.path}"
        known = {**known, "new": f"new-{uuid4().hex[:12]}", "role": self.role_to_give, "another": self.role_to_ask}
        target = f"tenant:{known['tenant_id']}" if known["tenant_id"] != self.tenant_id else f"tool:t{uuid4().hex[:8]}"
        path = route.at(**{**known, "name": target, "model_id": EVERYBODYS.get(name, "")})
        if route.is_console:
            return self._in_console(route, path, filled(FORMS.get(name, {}), known))
        options: dict[str, Any] = {"headers": {"Idempotency-Key": uuid4().hex}}
        if route.method not in {"GET", "DELETE"} and not route.path.startswith("/console"):
            options["json"] = filled(BODIES.get(name, {}), known)
        if name in QUERIES:
            options["params"] = filled(QUERIES[name], known)
        if name == STREAM:
            return self._stream(path, options)
        who = self.who
        if who is not None and name in SIGNED_IN:
            who = replace(who, key=self.trusted.token(who.member_id))
        return _answer(self.world.service.call(who, route.method, path, **options))

    def _stream(self, path: str, options: dict[str, Any]) -> Answer:
        """Whether the stream opens; this run has no end to wait for."""
        headers = {**options["headers"], **({"Authorization": f"Bearer {self.who.key}"} if self.who else {})}
        with httpx2.stream("GET", self.world.service.base_url + path, headers=headers, **PLAIN, timeout=400) as answer:
            if answer.status_code == 200:
                return Answer(200, "", {})
            answer.read()
            return _answer(answer)

    def _in_console(self, route: Route, path: str, form: dict[str, str]) -> Answer:
        with self._browser(at_provider=f"{route.method} {route.path}" in SIGNED_IN) as client:
            page = client.get("/console")
            token = _CSRF.search(page.text)
            form = {**form, "csrf": token[1] if token else "x"}
            answer = client.get(path) if route.method == "GET" else client.request(route.method, path, data=form)
            told = _answer(answer)
            if route.method == "POST" and told.status == 303 and answer.headers["location"] == "/console":
                notice = _NOTICE.search(client.get("/console").text)
                return Answer(303, notice[1] if notice else "", {})
            return told

    @contextmanager
    def _browser(self, *, at_provider: bool) -> Iterator[httpx2.Client]:
        with browser(self.world) as client:
            if self.who is not None and at_provider:
                assert sign_in(client, self.trusted, self.who.member_id).status_code == 200
            elif self.who is not None:
                assert client.post("/console/sign-in", data={"key": self.who.key}).status_code == 303
            yield client


def _answer(answer: httpx2.Response) -> Answer:
    if answer.status_code < 400 or "json" not in answer.headers.get("content-type", ""):
        return Answer(answer.status_code, answer.text, {})
    body = answer.json()
    told = body.get("error")  # as the chat interface tells it
    problem = {"code": told["code"], "detail": told["message"]} if isinstance(told, dict) else body
    return Answer(answer.status_code, answer.text, problem)
