"""Two requests at once with the same unique key: both get the one row, or the typed Conflict; never a database error.

Every unique key of the models is here: with a race, or with the reason why it cannot be one. A new one needs an entry.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from app.audit import trail
from app.audit.models import AuditEvent
from app.budgets.caps import Payer
from app.budgets.models import BudgetCap, BudgetWindow
from app.db.base import Base, new_id, utc_now
from app.db.tenancy import ALL_TENANTS
from app.db.unique import insert_or_existing
from app.errors import Conflict
from app.features.assistant.models import Ticket
from app.features.assistant.schemas import Priority
from app.features.assistant.tools import create_ticket
from app.gateway.cache import Cache
from app.gateway.catalog import CacheRules
from app.gateway.models import CachedAnswer
from app.identity.models import Member, Tenant
from app.identity.principal import Principal
from app.policy.decision import Allow, AskHuman, Deny
from app.runs.intake import RunRequest
from app.runs.models import Run, TenantRetention
from app.runtime import Runtime
from app.switches.models import Switch
from app.tools.caller import CallerOfRun
from app.tools.calls import Call, CallBook
from app.tools.models import Approval, ToolCall
from app.tools.spec import ToolContext
from gates.rig import people

pytestmark = pytest.mark.anyio
AT_ONCE = 8


@dataclass(frozen=True)
class Racing:
    runtime: Runtime
    who: Principal

    async def at_once(self, one: Callable[[int], Awaitable[Any]], *allowed: type[Exception]) -> list[Any]:
        """What each of several at the same moment got; an error that is not allowed is raised."""
        got = await asyncio.gather(*(one(number) for number in range(AT_ONCE)), return_exceptions=True)
        for each in got:
            if isinstance(each, BaseException) and not isinstance(each, allowed):
                raise each
        return got

    async def rows(self, model: Any, *where: Any) -> int:
        async with self.runtime.db.transaction(ALL_TENANTS) as session:
            return await session.scalar(sa.select(sa.func.count()).select_from(model).where(*where)) or 0


Race = Callable[[Racing], Awaitable[None]]


def _one_won(got: list[Any]) -> None:
    """One made the row, the others were told that it is taken."""
    assert sum(isinstance(each, Conflict) for each in got) == AT_ONCE - 1, got


async def _tenants(racing: Racing) -> None:
    name = f"race-{uuid4().hex}"
    _one_won(await racing.at_once(lambda _: racing.runtime.members.create_tenant(name, "test"), Conflict))
    assert await racing.rows(Tenant, Tenant.name == name) == 1


async def _members(racing: Racing) -> None:
    tenant, members = racing.who.tenant_id, racing.runtime.members
    _one_won(await racing.at_once(lambda _: members.add(tenant, "racer", ["member"], "test"), Conflict))
    assert await racing.rows(Member, Member.tenant_id == tenant, Member.name == "racer") == 1


async def _subjects(racing: Racing) -> None:
    members = type(racing.runtime.members)(racing.runtime.db, racing.runtime.members.roles, "https://idp.example")

    def add(number: int) -> Awaitable[str]:
        return members.add(racing.who.tenant_id, f"racer-{number}", ["member"], "test", subject="the-same")

    _one_won(await racing.at_once(add, Conflict))
    assert await racing.rows(Member, Member.subject == "the-same") == 1


async def _runs(racing: Racing) -> None:
    request = RunRequest("assistant", "Look.", ())
    got = await racing.at_once(lambda _: racing.runtime.intake.start(racing.who, request, "the-same"))
    assert len({run.id for run, _ in got}) == 1
    assert Counter(replayed for _, replayed in got) == {False: 1, True: AT_ONCE - 1}
    assert await racing.rows(Run, Run.member_id == racing.who.member_id) == 1


def _call(racing: Racing) -> tuple[CallBook, Call]:
    who = racing.who
    caller = CallerOfRun(
        "run-1", who.tenant_id, who.member_id, "assistant", frozenset({"tickets:write"}), key_id="",
        reads_documents=False, tools=frozenset({"create_ticket"}),
    )  # fmt: skip
    arguments = create_ticket.arguments.model_validate({"title": "A race", "body": "A body"})
    return CallBook(racing.runtime.db, "v1", timedelta(minutes=5)), Call(caller, "c1", create_ticket, arguments, who)


async def _started(racing: Racing) -> None:
    book, call = _call(racing)
    call = replace(call, spec=replace(call.spec, idempotent=False))
    got = await racing.at_once(lambda _: book.start(call, Allow("rule", "a reason")))
    assert Counter(got) == {True: 1, False: AT_ONCE - 1}
    assert await racing.rows(ToolCall, ToolCall.tenant_id == racing.who.tenant_id) == 1
    await racing.at_once(lambda _: book.deny(call, Deny("rule", "a reason")))


async def _asked(racing: Racing) -> None:
    book, call = _call(racing)
    got = await racing.at_once(lambda _: book.ask(call, AskHuman("rule", "a reason"), None))
    assert len(set(got)) == 1
    assert await racing.rows(Approval, Approval.tenant_id == racing.who.tenant_id) == 1
    asked = (AuditEvent.tenant_id == racing.who.tenant_id, AuditEvent.action == "approval.asked")
    assert await racing.rows(AuditEvent, *asked) == 1


async def _tickets(racing: Racing) -> None:
    book, call = _call(racing)
    context = ToolContext(racing.who, "run-1", "c1", f"key-{uuid4()}", book.db, racing.runtime.egress, call.caller)
    got = await racing.at_once(
        lambda _: create_ticket.function(context, title="A race", body="A body", priority=Priority.NORMAL)
    )
    assert len({ticket.id for ticket in got}) == 1
    assert await racing.rows(Ticket, Ticket.request_key == context.idempotency_key) == 1


async def _caps(racing: Racing) -> None:
    payer, ledger = Payer(racing.who.tenant_id, racing.who.member_id), racing.runtime.ledger

    async def change(number: int) -> None:
        if number % 2:
            await ledger.set_cap(payer, "member", 5_000_000, actor="test", period="month")
        else:
            await ledger.freeze(payer, "member", frozen=True, actor="test", reason="a race")

    await racing.at_once(change)
    assert await racing.rows(BudgetCap, BudgetCap.scope_id == payer.member_id, BudgetCap.period == "month") == 1
    windows = await ledger.windows(payer)
    assert [w.frozen for w in windows if w.scope == "member" and w.window.count("-") == 1] == [True]


async def _windows(racing: Racing) -> None:
    payer, ledger = Payer(racing.who.tenant_id, racing.who.member_id), racing.runtime.ledger
    await racing.at_once(lambda _: ledger.top_up(payer, "member", 1_000, actor="test", reason="a race"))
    [extra] = await _extra(racing, payer)
    assert extra == AT_ONCE * 1_000


async def _extra(racing: Racing, payer: Payer) -> list[int]:
    async with racing.runtime.db.transaction(ALL_TENANTS) as session:
        found = sa.select(BudgetWindow.extra_micro).where(BudgetWindow.scope_id == payer.member_id)
        return [extra for extra in await session.scalars(found) if extra]


async def _switches(racing: Racing) -> None:
    board, name = racing.runtime.board, f"tool:race_{uuid4().hex}"
    await racing.at_once(lambda number: board.throw(name, f"reason {number}", "test"))
    assert await racing.rows(Switch, Switch.name == name) == 1
    await racing.at_once(lambda _: board.release(name, "over", "test"))
    assert await racing.rows(Switch, Switch.name == name) == 0
    assert await racing.rows(AuditEvent, AuditEvent.action == "switch.off", AuditEvent.subject == f"switch:{name}") == 1


async def _answers(racing: Racing) -> None:
    cache = Cache(racing.runtime.db, CacheRules(ttl_s=60, stale_s=600))
    sent = {"messages": [{"role": "user", "content": "x"}], "temperature": 0, "seed": 1}
    key = cache.key(racing.who, "a", sent)
    await racing.at_once(lambda _: cache.keep(racing.who, key, "a", {"choices": [{"finish_reason": "stop"}]}))
    assert await racing.rows(CachedAnswer, CachedAnswer.key == key) == 1


async def _events(racing: Racing) -> None:
    async def append(number: int) -> None:
        async with racing.runtime.db.transaction(racing.who) as session:
            await trail.append(session, racing.who.tenant_id, "test", "raced", f"race:{number}")

    await racing.at_once(append)
    assert (await trail.verify(racing.runtime.db, ALL_TENANTS, racing.who.tenant_id)).intact


async def _retention(racing: Racing) -> None:
    def shorten(number: int) -> Awaitable[Any]:
        periods = racing.runtime.retention.periods
        return periods.set(
            racing.who.tenant_id, content_days=number + 7, history_days=None, actor="test", reason="a race"
        )

    await racing.at_once(shorten)
    assert await racing.rows(TenantRetention, TenantRetention.tenant_id == racing.who.tenant_id) == 1


RACES: dict[str, Race] = {
    "tenants(name)": _tenants,
    "members(tenant_id, name)": _members,
    "members(issuer, subject)": _subjects,
    "runs(tenant_id, member_id, idempotency_key)": _runs,
    "tool_calls(run_id, call_id)": _started,
    "approvals(run_id, call_id)": _asked,
    "tickets(request_key)": _tickets,
    "budget_caps(scope, scope_id, period)": _caps,
    "budget_windows(scope, scope_id, window)": _windows,
    "switches(name)": _switches,
    "cached_answers(key)": _answers,
    "audit_events(tenant_id, sequence)": _events,
    "tenant_retention(tenant_id)": _retention,
}
CANNOT_RACE = {
    "api_keys(prefix)": "drawn by chance for each key",
    "key_claims(claim_hash)": "of a code drawn by chance for each claim",
    "run_contents(run_id)": "made once, in the transaction that makes its run",
    "audit_heads(tenant_id)": "made once, in the transaction that makes its tenant",
    "schema_revisions(revision)": "written by one migration at a time, under its lock",
}


@pytest.mark.parametrize("key", RACES)
async def test_whoever_comes_at_the_same_moment_gets_the_one_row_or_a_conflict(runtime: Runtime, key: str) -> None:
    who = await people.person(runtime, await people.tenant(runtime), ["member"])
    await RACES[key](Racing(runtime, who.principal))


def test_every_unique_key_has_a_race_or_a_reason() -> None:
    assert {key for table in Base.metadata.tables.values() for key in _keys(table)} == {*RACES, *CANNOT_RACE}


def _keys(table: sa.Table) -> list[str]:
    """The unique keys of a table but an id, which `new_id` makes and nobody else has."""
    found = [constraint.columns for constraint in table.constraints if isinstance(constraint, sa.UniqueConstraint)]
    found += [index.columns for index in table.indexes if index.unique]
    keys = [[column.name for column in columns] for columns in (table.primary_key.columns, *found)]
    return [f"{table.name}({', '.join(names)})" for names in keys if names != ["id"]]


async def test_another_constraint_is_not_taken_for_the_key(runtime: Runtime) -> None:
    async with runtime.db.transaction(ALL_TENANTS) as session:
        nameless = Tenant(id=new_id(), name=None, created_at=utc_now())
        with pytest.raises(IntegrityError):
            await insert_or_existing(session, nameless, sa.select(Tenant).where(Tenant.name == "nobody's"))
