"""Gate 10, cost: does the operator's limit hold, whatever a tenant's own administrator sends?"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from app.budgets.caps import Payer
from app.budgets.ledger import Ledger
from app.budgets.money import to_micro
from gates.proof import Proof, control
from gates.rig.chats import asked_chat
from gates.rig.people import Person
from gates.rig.world import World, final

NOTHING, SOME = Decimal("0.000001"), Decimal("5.000000")
ROOM = {"day": Decimal("10.000000"), "month": Decimal("20.000000")}  # the operator's limits at first
PERIODS = ("day", "month")


@dataclass(frozen=True)
class Case:
    """One tenant with somebody who spends and an administrator, and the operator beside them."""

    proof: Proof
    world: World
    spender: Person
    admin: Person

    @classmethod
    def in_new_tenant(cls, proof: Proof, world: World) -> "Case":
        case = cls(proof, world, *world.people(["probe_reader", "probe_chatter"], ["probe_admin"]))
        for period in PERIODS:
            case.operator_sets(ROOM[period], period)
        return case

    def operator(self, change: Callable[[Ledger, Payer], Awaitable[Any]]) -> None:
        """Change the operator's layer, from another process than the one that serves, as a command does."""
        payer = Payer(self.admin.tenant_id, "")
        self.world.service.inside(lambda runtime: change(runtime.ledger, payer))

    def operator_sets(self, usd: Decimal, period: str) -> None:
        limit = to_micro(usd)
        self.operator(lambda ledger, payer: ledger.set_cap(payer, "tenant", limit, actor="proof", period=period))

    def operator_freezes(self, *, frozen: bool) -> None:
        why: dict[str, Any] = {"actor": "proof", "reason": "a drill"}
        self.operator(lambda ledger, payer: ledger.freeze(payer, "tenant", frozen=frozen, **why))

    def put(self, **change: Any) -> httpx2.Response:
        return self.world.service.call(self.admin, "PUT", "/v1/budgets", json={"scope": "tenant", **change})

    def budget(self, period: str = "month") -> dict[str, Any]:
        items = self.world.service.call(self.admin, "GET", "/v1/budgets").json()["items"]
        found: dict[str, Any] = next(i for i in items if (i["scope"], i["period"]) == ("tenant", period))
        return found

    def works(self, assertion: str, where: str) -> None:
        ran = self.world.run(self.spender, final())
        self.proof.same(assertion, (ran.state.get("state"), len(ran.script.seen)), ("succeeded", 1), where)

    def refused(self, assertion: str, where: str, says: str) -> None:
        """A run and a chat are refused before the provider is asked, and are told why."""
        ran = self.world.start(self.spender, final())
        self.proof.same(assertion, ran.answer.status_code, 402, f"{where}, a run")
        self.proof.holds(assertion, says in ran.answer.text, f"{where}: {ran.answer.text}")
        script = self.world.model.script(final())
        chatted = asked_chat(self.world, self.spender, script)
        self.proof.same(assertion, (chatted.status, chatted.code), (402, "budget.exceeded"), f"{where}, a chat")
        asked = len(ran.script.seen) + len(script.seen)
        self.proof.same(assertion, asked, 0, f"{where}: requests at the provider")


@pytest.mark.timeout(2_000)
@control("CST-01", cases=51)
def test_the_operators_limit_holds_against_a_tenants_administrator(proof: Proof, world: World) -> None:
    case = Case.in_new_tenant(proof, world)
    with proof.positive("a tenant's administrator narrows the limit, and widens it again up to the operator's"):
        for period in PERIODS:
            assert case.put(limit_usd="0.000001", period=period).status_code == 200
            assert case.put(limit_usd=str(ROOM[period]), period=period).status_code == 200
        assert world.run(case.spender, final()).state["state"] == "succeeded"
    for period in PERIODS:
        _limit(case, period)
        _top_up(Case.in_new_tenant(proof, world), period)
    _switch(case)


def _limit(case: Case, period: str) -> None:
    proof, above = case.proof, str(ROOM[period] + Decimal("0.000001"))
    proof.same("operators-limit", case.put(limit_usd=above, period=period).status_code, 403, f"above a {period}'s")
    case.operator_sets(NOTHING, period)  # below the tenant's own
    held = case.budget(period)
    proof.same("operators-limit", (held["limit_usd"], held["limited_by"]), (str(NOTHING), "operator"), "at once:")
    case.refused("operators-limit", f"the operator's limit of a {period}", "the platform's operators")
    higher = case.put(limit_usd=str(SOME), period=period)
    proof.same("operators-limit", higher.status_code, 403, f"a tenant's limit of a {period} above the operator's")
    proof.holds("operators-limit", "$0.000001" in higher.text, f"it names the operator's: {higher.text}")
    more = case.put(add_usd=str(SOME), period=period, reason="a launch")
    proof.same("operators-limit", more.status_code, 403, f"a tenant's top-up of a {period} above the operator's")
    case.put(no_limit=True, period=period)
    proof.same("operators-limit", case.budget(period)["limit_usd"], str(NOTHING), "after all of these:")
    case.refused("operators-limit", f"the operator's limit of a {period}, still", "the platform's operators")
    case.put(limit_usd="0", period=period)
    case.operator_sets(ROOM[period], period)
    case.refused("operators-limit", f"a tenant's own limit of a {period}", "the tenant's administrators")
    case.put(no_limit=True, period=period)
    case.works("usable", f"without a {period}'s limit of its own")


def _top_up(case: Case, period: str) -> None:
    """Each layer's top-up raises that layer alone."""
    proof = case.proof
    case.operator_sets(SOME, period)
    case.put(limit_usd=str(SOME), period=period)
    reason: dict[str, Any] = {"actor": "proof", "reason": "a launch", "period": period}
    one = to_micro(Decimal(1))
    case.operator(lambda ledger, payer: ledger.top_up(payer, "tenant", one, **reason))
    held = case.budget(period)
    told = {name: Decimal(held[f"{name}_limit_usd"]) for name in ("operator", "tenant")}
    proof.same("operators-limit", told, {"operator": SOME + 1, "tenant": SOME}, "after the operator's top-up:")
    proof.same("usable", case.put(add_usd="1", period=period).status_code, 200, "a top-up within the operator's:")
    proof.same("usable", Decimal(case.budget(period)["limit_usd"]), SOME + 1, "after both:")
    proof.same("operators-limit", case.put(add_usd="0.000001", period=period).status_code, 403, "a top-up beyond it:")
    proof.same("operators-limit", Decimal(case.budget(period)["limit_usd"]), SOME + 1, "after that:")


def _switch(case: Case) -> None:
    """The operator's switch is not the tenant's to release."""
    world, proof, name = case.world, case.proof, f"tenant:{case.admin.tenant_id}"
    world.service.inside(lambda runtime: runtime.board.throw(name, "a drill", "proof"))
    off = {"state": "off", "reason": "not mine to say"}
    asked = world.service.call(case.admin, "PUT", f"/v1/switches/{name}", json=off)
    proof.same("operators-limit", asked.status_code, 403, "a tenant's administrator releases the operator's switch:")
    ran = world.start(case.spender, final())
    proof.same("operators-limit", (ran.answer.status_code, len(ran.script.seen)), (503, 0), "the switch is still on:")
    world.service.inside(lambda runtime: runtime.board.release(name, "over", "proof"))
    case.works("usable", "the operator has released it")


@pytest.mark.timeout(2_000)
@control("CST-01", cases=22)
def test_a_frozen_budget_spends_nothing_until_who_froze_it_thaws_it(proof: Proof, world: World) -> None:
    case = Case.in_new_tenant(proof, world)
    with proof.positive("before anybody freezes it, a run succeeds"):
        assert world.run(case.spender, final()).state["state"] == "succeeded"
    assert case.put(frozen=True).status_code == 200
    case.refused("refused-typed", "frozen by the tenant", "is frozen by the tenant's administrators")
    case.operator_freezes(frozen=False)
    case.refused("refused-typed", "a thaw of the other layer", "is frozen by the tenant's administrators")
    assert case.put(frozen=False).status_code == 200
    case.works("usable", "the tenant has thawed it")
    case.operator_freezes(frozen=True)
    thawed = case.put(frozen=False)
    proof.same("operators-limit", thawed.json()["items"][0]["frozen"], True, "a tenant thaws the operator's freeze:")
    for period in PERIODS:
        proof.same("operators-limit", case.budget(period)["frozen_by"], ["operator"], f"of the {period}:")
    case.refused("operators-limit", "frozen by the operator", "is frozen by the platform's operators")
    case.put(frozen=True)
    proof.same("operators-limit", case.budget()["frozen_by"], ["operator", "tenant"], "both have frozen it:")
    case.operator_freezes(frozen=False)
    case.refused("refused-typed", "one of two freezes is left", "is frozen by the tenant's administrators")
    case.put(frozen=False)
    case.works("usable", "both have thawed it")
