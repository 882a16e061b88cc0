"""The matrix's judgement: what each cell is declared to be, and which answers are that."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from app.policy.decision import Effect
from app.runtime import Runtime
from gates.matrix import cells, tools
from gates.matrix.cells import NOBODY, ROLELESS, Cell, Declared, Seen, Whose
from gates.matrix.objects import Store, seeded
from gates.matrix.tools import ToolCell, ToolSeen
from gates.rig import people
from gates.rig.databases import owner_of
from gates.rig.probe import FEATURE
from gates.rig.routes import Route

HOLDERS: Mapping[str, Sequence[str]] = {
    "runs:read": ["viewer"], "runs:write": ["member"], "tenants:write": ["platform"], "approvals:decide": ["approver"],
    "things:read": ["viewer"],
}  # fmt: skip
BY_HAND = {"GET /v1/runs/{run_id}": "runs:read"}
RUN = Route("GET", "/v1/runs/{run_id}", "runs:read", is_console=False)
FORBIDDEN = Seen(403, "auth.forbidden", "You do not have access to this action.")


@pytest.mark.parametrize(
    ("route", "role", "whose", "about_one", "declared"),
    [
        (RUN, "viewer", "own", True, "allowed"),
        (RUN, "viewer", "foreign", True, "missing"),
        (RUN, "member", "own", True, "denied"),
        (RUN, "member", "foreign", True, "denied"),
        (RUN, ROLELESS, "own", True, "denied"),
        (RUN, NOBODY, "own", True, "signed out"),
        (Route("GET", "/v1/runs", "runs:read", is_console=False), "viewer", "foreign", False, "hidden"),
        (Route("POST", "/v1/tenants", "tenants:write", is_console=False), "platform", "foreign", False, "allowed"),
        (Route("GET", "/v1/things", "things:read", is_console=False), "viewer", "own", False, "allowed"),
        (Route("GET", "/v1/things", None, is_console=False), "viewer", "own", False, "denied"),
        (Route("POST", "/console/approvals", None, is_console=True), "viewer", "own", True, "denied"),
        (Route("POST", "/console/new", None, is_console=True), "approver", "own", True, "denied"),
        (Route("GET", "/console", None, is_console=True), ROLELESS, "own", False, "allowed"),
        (Route("GET", "/livez", None, is_console=False), NOBODY, "own", False, "public"),
    ],
)
def test_what_is_declared(route: Route, role: str, whose: Whose, about_one: bool, declared: Declared) -> None:
    needed = cells.needs(route, BY_HAND)
    assert cells.declare(route, needed, role, whose, HOLDERS, about_one=about_one).declared == declared


def test_a_guard_that_names_another_permission_than_the_table_changes_nothing_about_what_is_declared() -> None:
    loosened = replace(RUN, permission="usage:read")
    assert cells.needs(loosened, BY_HAND) == "runs:read"


READ = Cell("viewer", "GET", "/v1/runs/{run_id}", "own", "allowed")
WRITE = Cell("member", "POST", "/v1/runs/{run_id}/cancel", "own", "allowed")
FOREIGN = replace(WRITE, whose="foreign", declared="missing")
DENIED = replace(WRITE, declared="denied")
LIST = Cell("viewer", "GET", "/v1/runs", "foreign", "hidden")
OUT = replace(READ, declared="signed out")


@pytest.mark.parametrize(
    ("cell", "seen"),
    [
        (READ, Seen(200)),
        (WRITE, Seen(200, did=True)),
        (FOREIGN, Seen(404, "resource.not_found")),
        (DENIED, FORBIDDEN),
        (LIST, Seen(200)),
        (OUT, Seen(401, "auth.unauthenticated")),
        (replace(OUT, path="/console"), Seen(303)),
        (replace(READ, declared="refused"), Seen(405)),
        (Cell("approver", "POST", "/v1/approvals/decisions", "foreign", "missing"), Seen(200)),
    ],
)
def test_what_is_as_declared(cell: Cell, seen: Seen) -> None:
    assert cells.deviation(cell, seen) == ""


@pytest.mark.parametrize(
    ("cell", "seen", "told"),
    [
        (READ, Seen(404), "declared allowed, answered 404"),
        (READ, FORBIDDEN, "answered 403"),
        (READ, Seen(200, showed=False), "not shown"),
        (READ, Seen(500), "failure"),
        (READ, Seen(503), "failure"),
        (READ, Seen(429), "limit"),
        (WRITE, Seen(200), "not changed something"),
        (WRITE, Seen(422), "answered 422"),
        (FOREIGN, Seen(200), "declared missing"),
        (FOREIGN, FORBIDDEN, "declared missing"),
        (FOREIGN, Seen(404, like_missing=False), "not like a missing one"),
        (FOREIGN, Seen(404, hurt=True), "changed something of another tenant"),
        (FOREIGN, Seen(404, leaked=["their-id"]), "their-id"),
        (DENIED, Seen(200, did=True), "declared denied"),
        (DENIED, Seen(404), "declared denied"),
        (DENIED, replace(FORBIDDEN, did=True), "changed something"),
        (DENIED, Seen(403, "auth.forbidden", "You asked for this."), "answered 403"),
        (DENIED, Seen(500), "failure"),
        (LIST, Seen(200, leaked=["their-id"]), "their-id"),
        (LIST, Seen(404), "declared hidden"),
        (OUT, Seen(200), "declared signed out"),
        (OUT, FORBIDDEN, "declared signed out"),
        (replace(READ, declared="public"), Seen(401), "declared public"),
        (replace(READ, declared="refused"), Seen(200), "declared refused"),
    ],
)
def test_what_is_not(cell: Cell, seen: Seen, told: str) -> None:
    assert told in cells.deviation(cell, seen)


def test_a_feature_s_route_may_refuse_a_body_that_nobody_here_knows_and_still_denies_like_any_other() -> None:
    for status in (200, 404, 422):
        assert cells.deviation(WRITE, Seen(status), guessed=True) == ""
    assert cells.deviation(DENIED, Seen(422), guessed=True) != ""
    assert cells.deviation(FOREIGN, Seen(200), guessed=True) != ""


RULES = [
    {"id": "a", "effects": ["read"], "decision": "allow"},
    {"id": "b", "effects": ["write"], "roles": ["member"], "decision": "ask"},
]


def test_what_is_declared_for_a_tool() -> None:
    spec = replace(FEATURE.tools[0], name="t")
    read, write, delete = (replace(spec, effect=effect) for effect in (Effect.READ, Effect.WRITE, Effect.DELETE))
    assert tools.declare("member", read, "runs:write", HOLDERS, RULES) == ToolCell(
        "member", "t", offered=True, outcome="effect"
    )
    assert tools.declare("member", write, "runs:write", HOLDERS, RULES).outcome == "question"
    assert tools.declare("member", delete, "runs:write", HOLDERS, RULES).outcome == "nothing"
    assert tools.declare("viewer", read, "runs:write", HOLDERS, RULES) == ToolCell(
        "viewer", "t", offered=False, outcome="nothing"
    )


def test_a_tool_is_neither_offered_nor_done_otherwise() -> None:
    asks = ToolCell("member", "t", offered=True, outcome="question")
    assert tools.deviation(asks, ToolSeen(offered=True, outcome="question")) == ""
    for offered, outcome in ((False, "question"), (True, "effect"), (True, "nothing"), (False, "no run: 403")):
        assert "declared offered, question" in tools.deviation(asks, ToolSeen(offered, outcome))


@pytest.mark.parametrize(
    ("template", "path", "matches"),
    [
        ("/v1/keys/{key_id}", "/v1/keys/own", True),
        ("/v1/keys/{key_id}", "/v1/keys/own/rotation", False),
        ("/v1/switches/{name:path}", "/v1/switches/tool:a/b", True),
        ("/v1/runs", "/v1/runs", True),
    ],
)
def test_a_path_may_be_led_to_a_route_that_was_written_for_another(template: str, path: str, matches: bool) -> None:
    assert Route("DELETE", template, None, is_console=False).matches(path) is matches


@pytest.mark.anyio
async def test_the_objects_that_it_asks_about_fit_the_store(runtime: Runtime, database_url: str) -> None:
    tenant = await people.tenant(runtime)
    store = Store.at(owner_of(database_url))
    known = seeded(store, tenant)
    ids = {value for name, value in known.items() if name not in {"tenant_id", "claim_code"}}
    found = store.ids(tenant)
    store.engine.dispose()
    assert ids <= found
