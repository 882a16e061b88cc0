"""Whatever both the operator and a tenant's administrator may touch: the operator sets it, the administrator tries to
lift it, and what the operator set stays. Held to docs/ownership.md, which names every route and command that writes."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
import typer
from sqlalchemy import update

from app.budgets.caps import Payer
from app.db.base import utc_now
from app.db.tenancy import ALL_TENANTS
from app.entrypoints.cli import GROUPS
from app.errors import RunCancelled
from app.identity.models import Tenant
from app.runtime import Runtime
from app.settings import ROOT
from app.tools.models import Approval
from gates.rig.people import Person
from gates.rig.routes import all_routes
from gates.rig.service import Service

PAGE = (ROOT / "docs" / "ownership.md").read_text()
TASK = "Check whether we know this outage, and create a ticket for it."
DOCUMENTS = [("mail.txt", "Checkout fails with error 502 since 9:00. Urgent.")]
WHO: dict[str, Any] = {"actor": "operator"}
WHY: dict[str, Any] = {**WHO, "reason": "a drill"}


def _status(service: Service, who: Person, method: str, path: str, **body: Any) -> int:
    return service.call(who, method, path, json=body).status_code


def _budget(service: Service, who: Person, **change: Any) -> tuple[int, dict[str, Any]]:
    """A change of the tenant's budget; its status, and the budget of the month as it then is."""
    status = _status(service, who, "PUT", "/v1/budgets", scope="tenant", **change)
    items = service.call(who, "GET", "/v1/budgets").json()["items"]
    return status, next(item for item in items if (item["scope"], item["period"]) == ("tenant", "month"))


def _spending_limit(service: Service) -> None:
    admin, member = service.people(["admin"], ["member"])
    payer = Payer(admin.tenant_id, "")
    service.inside(lambda runtime: runtime.ledger.set_cap(payer, "tenant", 0, **WHO))
    for change, expected in (({"limit_usd": "1"}, 403), ({"no_limit": True}, 200), ({"limit_usd": "0"}, 200)):
        status, budget = _budget(service, admin, **change)
        assert (status, budget["limit_usd"], budget["operator_limit_usd"]) == (expected, "0.000000", "0.000000")
    assert service.start_run(member, TASK).json()["code"] == "budget.exceeded"


def _top_up(service: Service) -> None:
    [admin] = service.people(["admin"])
    payer = Payer(admin.tenant_id, "")
    service.inside(lambda runtime: runtime.ledger.set_cap(payer, "tenant", 1_000_000, **WHO))
    assert _budget(service, admin, add_usd="1")[0] == 403  # the limit in force is not the tenant's
    _budget(service, admin, limit_usd="1")
    status, budget = _budget(service, admin, add_usd="0.000001")
    assert (status, budget["limit_usd"]) == (403, "1.000000")


def _freeze(service: Service) -> None:
    admin, member = service.people(["admin"], ["member"])
    payer = Payer(admin.tenant_id, "")
    service.inside(lambda runtime: runtime.ledger.freeze(payer, "tenant", frozen=True, **WHY))
    _, budget = _budget(service, admin, frozen=False)
    assert (budget["frozen"], budget["frozen_by"]) == (True, ["operator"])
    assert "frozen by the platform's operators" in service.start_run(member, TASK).json()["detail"]


def _run_limit(service: Service) -> None:
    [member] = service.people(["member"])
    wider = {"limits": {"model_calls": 1_000}}
    assert service.start_run(member, TASK, body=wider).status_code == 422


def _model_tier(service: Service) -> None:
    [admin] = service.people(["admin"])

    async def tier(runtime: Runtime) -> str | None:
        async with runtime.db.transaction(ALL_TENANTS) as session:
            return (await session.get_one(Tenant, admin.tenant_id)).tier

    service.inside(lambda runtime: runtime.members.set_tier(admin.tenant_id, "small", "operator"))
    assert _status(service, admin, "PATCH", f"/v1/tenants/{admin.tenant_id}", tier=None) == 403
    assert service.inside(tier) == "small"


def _switch(service: Service, name: str, *, on: bool) -> None:
    async def change(runtime: Runtime) -> None:
        await (runtime.board.throw if on else runtime.board.release)(name, "a drill", "operator")

    service.inside(change)


def _kill_switch(service: Service) -> None:
    admin, member = service.people(["admin"], ["member"])
    for name in (f"tenant:{admin.tenant_id}", "feature:assistant"):
        _switch(service, name, on=True)
        try:
            assert _status(service, admin, "PUT", f"/v1/switches/{name}", state="off", reason="not mine") == 403
            assert service.start_run(member, TASK).json()["code"] == "service.halted"
        finally:
            _switch(service, name, on=False)


def _disabled_member(service: Service) -> None:
    admin, member = service.people(["admin"], ["member"])
    path = f"/v1/members/{member.member_id}"

    def shut(*, disabled: bool) -> None:
        where = member.tenant_id, member.name
        service.inside(lambda runtime: runtime.members.shut(*where, disabled=disabled, actor="operator"))

    shut(disabled=True)
    assert _status(service, admin, "PATCH", path, disabled=False) == 403
    assert service.call(member, "GET", "/v1/runs").status_code == 401
    listed = {item["id"]: item for item in service.call(admin, "GET", "/v1/members").json()["items"]}
    assert listed[member.member_id]["disabled_by"] == ["operator"]
    # The tenant's own is its own: the operator does not take it back.
    assert _status(service, admin, "PATCH", path, disabled=True) == 200
    shut(disabled=False)
    assert service.call(member, "GET", "/v1/runs").status_code == 401
    assert _status(service, admin, "PATCH", path, disabled=False) == 200
    assert service.call(member, "GET", "/v1/runs").status_code == 200


def _platform_role(service: Service) -> None:
    admin, member, operator = service.people(["admin"], ["member"], ["platform_operator"])
    assert _status(service, admin, "POST", "/v1/members", name="x", roles=["platform_operator"]) == 403
    for person, change in ((member, ["platform_operator"]), (operator, ["viewer"])):
        assert _status(service, admin, "PATCH", f"/v1/members/{person.member_id}", roles=change) == 403
    assert service.call(operator, "GET", "/v1/switches").status_code == 200
    assert service.call(member, "GET", "/v1/switches").status_code == 403


def _other_role(service: Service) -> None:
    admin, member = service.people(["admin"], ["member"])
    assert _status(service, admin, "PATCH", f"/v1/members/{admin.member_id}", roles=["admin", "member"]) == 403
    assert _status(service, admin, "PATCH", f"/v1/members/{member.member_id}", roles=["no_such_role"]) == 422
    asked = {"role": "platform_operator", "minutes": 5, "reason": "to see"}
    assert _status(service, member, "POST", "/v1/elevations", **asked) == 403


def _link(service: Service) -> None:
    [admin] = service.people(["admin"])
    assert _status(service, admin, "POST", "/v1/members", name="x", roles=["member"], subject="somebody") == 403


def _revoked_key(service: Service) -> None:
    admin, member = service.people(["admin"], ["member"])
    key_id = member.principal.key_id
    service.inside(lambda runtime: runtime.keys.revoke(member.tenant_id, key_id, "operator"))
    assert _status(service, admin, "POST", f"/v1/keys/{key_id}/rotation") == 409
    assert service.call(member, "GET", "/v1/runs").status_code == 401


def _scopes(service: Service) -> None:
    admin, member, operator = service.people(["admin"], ["member"], ["platform_operator"])
    lifetime = timedelta(days=2)
    where = member.tenant_id, member.member_id
    issued = service.inside(
        lambda runtime: runtime.keys.issue(*where, "operator", scopes=["runs:read"], lifetime=lifetime)
    )
    rotated = service.call(admin, "POST", f"/v1/keys/{issued.id}/rotation", json={}).json()
    keys = {key["id"]: key for key in service.call(admin, "GET", "/v1/keys").json()["items"]}
    assert keys[rotated["id"]]["scopes"] == ["runs:read"]
    assert rotated["expires_at"] <= (utc_now() + lifetime).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    for method, path in (("POST", "/rotation"), ("DELETE", "")):
        assert _status(service, admin, method, f"/v1/keys/{operator.principal.key_id}{path}") == 403
    assert _status(service, admin, "POST", "/v1/keys", member_id=operator.member_id) == 403
    assert service.call(operator, "GET", "/v1/switches").status_code == 200


def _waiting(service: Service) -> tuple[Person, Person, str, Any]:
    member, approver = service.people(["member"], ["approver"])
    run_id = service.start_run(member, TASK, documents=DOCUMENTS).json()["id"]
    service.run_until(member, run_id, "waiting")
    [question] = service.pending(approver, run_id)
    return member, approver, run_id, question


def _stopped_run(service: Service) -> None:
    member, approver, run_id, question = _waiting(service)
    service.inside(lambda runtime: runtime.store.kill(run_id, "operator", "a drill"))
    assert service.decide(approver, question).status_code == 410
    run = service.call(member, "GET", f"/v1/runs/{run_id}").json()
    assert (run["state"], run["error"]["code"]) == ("cancelled", RunCancelled.row.code)


def _expired_question(service: Service) -> None:
    _, approver, _, question = _waiting(service)

    async def expire(runtime: Runtime) -> int:
        async with runtime.db.transaction(ALL_TENANTS) as session:
            late = update(Approval).where(Approval.id == question["id"])
            await session.execute(late.values(expires_at=utc_now() - timedelta(seconds=1)))
        return await runtime.approvals.expire_due()

    assert service.inside(expire) <= 1  # the service's own round may have been there first
    assert service.decide(approver, question).status_code == 410


def _own_key(service: Service) -> None:
    admin, member = service.people(["admin"], ["member"])
    # Nobody is linked to a provider here, so a claim could be redeemed by nobody.
    assert _status(service, admin, "POST", f"/v1/members/{member.member_id}/key-claims") == 409
    claim = f"claim_{'A' * 43}"
    for who in (admin, member):  # with a key, which somebody else may have seen, and not with a sign-in of their own
        assert _status(service, who, "POST", "/v1/keys/own") == 403
        assert _status(service, who, "POST", "/v1/key-claim-redemptions", claim=claim) == 404


def _retention(service: Service) -> None:
    [admin] = service.people(["admin"])

    async def shorten(runtime: Runtime) -> int:
        periods = runtime.retention.periods
        await periods.set(admin.tenant_id, content_days=7, history_days=None, actor="operator", reason="a drill")
        return (await periods.by_tenant())[admin.tenant_id].content

    assert service.inside(shorten) == 7
    assert not [route.path for route in all_routes() if "retention" in route.path]


PLAYS: dict[str, Callable[[Service], None]] = {
    "spending limit": _spending_limit,
    "top-up": _top_up,
    "freeze": _freeze,
    "run limit": _run_limit,
    "model tier": _model_tier,
    "kill switch": _kill_switch,
    "disabled member": _disabled_member,
    "platform role": _platform_role,
    "other role": _other_role,
    "link to the identity provider": _link,
    "revoked key": _revoked_key,
    "scopes of a key": _scopes,
    "stopped run": _stopped_run,
    "own key": _own_key,
    "retention": _retention,
    "expired question": _expired_question,
}


@pytest.mark.parametrize("setting", PLAYS)
def test_what_the_operator_set_stays(service: Service, setting: str) -> None:
    PLAYS[setting](service)


def test_each_setting_of_the_page_is_played() -> None:
    rows = re.findall(r"^\| ([a-z][^|`]*) \| ", PAGE.partition("## What one alone")[0], re.MULTILINE)
    assert [row for row in rows if row != "setting"] == list(PLAYS)


def _commands() -> Iterator[str]:
    """Commands that change something: those that can be tried dry."""
    for name, deferred in GROUPS.items():
        group: typer.Typer = getattr(import_module(f"app.entrypoints.{deferred.module}"), deferred.attribute)
        for command in group.registered_commands:
            if command.callback is not None and "dry_run" in command.callback.__annotations__:
                yield f"app {name} {command.name or command.callback.__name__}"


def test_every_route_and_command_that_writes_is_on_the_page() -> None:
    own = "/v1/assistant/"  # a feature's routes write its own content
    routes = [
        f"{route.method} {route.path}"
        for route in all_routes()
        if route.method not in {"GET", "HEAD"} and not route.path.startswith(own)
    ]
    commands = list(_commands())
    assert len(routes) > 15
    assert len(commands) > 12
    absent = [name for name in (*routes, *commands) if f"`{name}`" not in PAGE]
    assert absent == [], "say in docs/ownership.md who writes it and what holds, and play it here"
