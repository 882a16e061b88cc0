"""What is kept long enough goes, what somebody still needs stays, and a dry run changes nothing."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy import func, select

import app.runs.retention
import app.runs.retention_sweeps
from app.audit import trail
from app.audit.models import AuditEvent
from app.budgets.models import BudgetCap, BudgetWindow, ModelCall
from app.db.base import Base, new_id, utc_now
from app.db.tenancy import ALL_TENANTS
from app.errors import RequestInvalid
from app.gateway.models import CachedAnswer
from app.identity.models import ApiKey, Elevation, KeyClaim
from app.runs.intake import RunRequest
from app.runs.models import Run, RunContent
from app.runs.retention_periods import MIN_RECORDS_DAYS, Periods
from app.runs.retention_sweeps import TABLES, retention_of, undecided
from app.runtime import Runtime
from app.tools.models import Approval, ToolCall
from gates.rig import people
from gates.rig.people import Person
from gates.rig.runs import stored_run

pytestmark = pytest.mark.anyio
HISTORY, CONTENT, RECORDS = 8, 91, 401  # a day more than each default


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many days from now retention believes it is."""
    days = [0]
    for module in (app.runs.retention, app.runs.retention_sweeps):
        monkeypatch.setattr(module, "utc_now", lambda: datetime.now(UTC) + timedelta(days=days[0]))
    return iter([days])


async def _run(runtime: Runtime, who: Person, state: str = "succeeded") -> str:
    """A run as it is once it has ended, with all that hangs on one."""
    request = RunRequest("gone", "secret-task", ({"name": "a", "text": "secret-text"},))
    run_id = await stored_run(runtime, who.principal, request)
    now = utc_now()
    mine = {"tenant_id": who.tenant_id, "run_id": run_id}
    call = {"tool": "t", "effect": "write", "digest": "", "call_id": "c1"}
    async with runtime.db.transaction(ALL_TENANTS) as session:
        its = sa.update(Run).where(Run.id == run_id)
        ended = now if state in {"succeeded", "failed", "cancelled"} else None
        await session.execute(its.values(state=state, ended_at=ended, output={"answer": "secret-answer"}))
        await session.execute(sa.update(RunContent).where(RunContent.run_id == run_id).values(history="secret-history"))
        session.add_all(
            [
                ToolCall(
                    id=new_id(), **mine, **call, rule="r", state="done", result={"value": "secret"}, started_at=now
                ),
                Approval(
                    id=new_id(), **mine, **call, arguments={"text": "secret-argument"}, change={"before": {}},
                    reason="r", requested_by=who.member_id, state="used", created_at=now, expires_at=now,
                ),
                ModelCall(
                    id=new_id(), **mine, member_id=who.member_id, feature="gone", model="m", prompt_version="p",
                    state="settled", held_micro=5, cost_micro=5, started_at=now, expires_at=now,
                ),
                BudgetWindow(scope="run", scope_id=run_id, window="run", limit_micro=9, warned={}),
            ]
        )  # fmt: skip
    return run_id


async def _person(runtime: Runtime) -> Person:
    return await people.person(runtime, await people.tenant(runtime), ["member"])


async def _count(runtime: Runtime, column: object, *where: object) -> int:
    async with runtime.db.read(ALL_TENANTS) as session:
        return await session.scalar(select(func.count(column)).where(*where)) or 0  # type: ignore[arg-type]


async def _everything(runtime: Runtime) -> dict[str, list[tuple[object, ...]]]:
    async with runtime.db.read(ALL_TENANTS) as session:
        connection = await session.connection()
        return {
            name: [tuple(row) for row in await connection.execute(table.select().order_by(*table.primary_key))]
            for name, table in Base.metadata.tables.items()
        }


def test_somebody_has_decided_about_every_table() -> None:
    assert undecided() == [], "add it to TABLES, or to the feature's model: {'info': {'retention': '…'}}"
    assert set(TABLES) <= set(Base.metadata.tables), "these are no tables any more"


def test_a_table_that_nobody_decided_about_is_found() -> None:
    table = sa.Table("planted", sa.MetaData(), sa.Column("id", sa.String, primary_key=True))
    assert retention_of(table) is None
    table.info["retention"] = "kept"
    assert retention_of(table) == "kept"


async def test_history_goes_first_then_content_then_the_rows(runtime: Runtime, ahead: Iterator[list[int]]) -> None:
    [days] = ahead
    who = await _person(runtime)
    run_id = await _run(runtime, who)
    assert (await runtime.retention.run()).deleted == {}
    days[0] = HISTORY
    assert (await runtime.retention.run()).deleted == {"history": 1}
    assert await _count(runtime, RunContent.run_id, RunContent.history.is_not(None)) == 0
    assert await _count(runtime, RunContent.run_id) == 1
    days[0] = CONTENT
    assert (await runtime.retention.run()).deleted == {"content": 1}
    run = await runtime.intake.get(who.principal, run_id)
    assert (run.state, run.output) == ("succeeded", None)
    assert run.content_deleted_at is not None
    assert (await runtime.spend.of_run(who.principal, run_id)).cost_micro == 5
    for column, content in (
        (ToolCall.id, ToolCall.result),
        (Approval.id, Approval.arguments),
        (Approval.id, Approval.change),
    ):
        assert await _count(runtime, column, content.is_not(None)) == 0
    days[0] = RECORDS
    await runtime.retention.run()
    for column in (Run.id, RunContent.run_id, ToolCall.id, Approval.id, ModelCall.id):
        assert await _count(runtime, column) == 0, column
    assert await _count(runtime, BudgetWindow.scope_id, BudgetWindow.scope == "run") == 0
    assert (await trail.verify(runtime.db, who.principal, who.tenant_id)).intact


async def test_a_dry_run_says_what_would_go_and_changes_nothing(runtime: Runtime, ahead: Iterator[list[int]]) -> None:
    [days] = ahead
    who = await _person(runtime)
    await _run(runtime, who)
    before = await _everything(runtime)
    days[0] = RECORDS
    due = await runtime.retention.due()
    assert {kind: due[kind] for kind in ("history", "content", "runs")} == {"history": 1, "content": 1, "runs": 1}
    assert await _everything(runtime) == before
    deleted = (await runtime.retention.run()).deleted
    assert {kind: deleted[kind] for kind in ("history", "content", "runs")} == {"history": 1, "content": 1, "runs": 1}


@pytest.mark.parametrize("state", ["queued", "running", "waiting"])
async def test_a_run_that_has_not_ended_is_kept(runtime: Runtime, ahead: Iterator[list[int]], state: str) -> None:
    [days] = ahead
    run_id = await _run(runtime, await _person(runtime), state)
    days[0] = RECORDS
    await runtime.retention.run()
    assert await _count(runtime, RunContent.run_id, RunContent.run_id == run_id, RunContent.history.is_not(None)) == 1
    assert await _count(runtime, ToolCall.id, ToolCall.run_id == run_id, ToolCall.result.is_not(None)) == 1
    assert await _count(runtime, ModelCall.id, ModelCall.run_id == run_id) == 1


@pytest.mark.parametrize("needed", ["outcome unknown", "money held"])
async def test_a_run_that_somebody_still_needs_is_kept(
    runtime: Runtime, ahead: Iterator[list[int]], needed: str
) -> None:
    [days] = ahead
    run_id = await _run(runtime, await _person(runtime))
    async with runtime.db.transaction(ALL_TENANTS) as session:
        if needed == "outcome unknown":
            await session.execute(sa.update(ToolCall).values(state="unknown"))
        else:
            await session.execute(sa.update(ModelCall).values(state="held"))
    days[0] = RECORDS
    await runtime.retention.run()
    assert await _count(runtime, RunContent.run_id, RunContent.run_id == run_id) == 1
    assert await _count(runtime, Approval.id, Approval.arguments.is_not(None)) == 1
    assert await _count(runtime, ModelCall.id) == 1


async def test_a_tenants_shorter_period_counts_for_it_alone(runtime: Runtime, ahead: Iterator[list[int]]) -> None:
    [days] = ahead
    mine, theirs = await _person(runtime), await _person(runtime)
    short, usual = await _run(runtime, mine), await _run(runtime, theirs)
    set_ = runtime.retention.periods.set
    held = await set_(mine.tenant_id, content_days=3, history_days=None, actor="test", reason="as agreed")
    assert (held.history, held.content, held.records) == (3, 3, 400)
    days[0] = 4
    await runtime.retention.run()
    assert (await runtime.intake.get(mine.principal, short)).content_deleted_at is not None
    assert (await runtime.intake.get(theirs.principal, usual)).content_deleted_at is None
    with pytest.raises(RequestInvalid, match="1 to 90 days"):
        await set_(mine.tenant_id, content_days=91, history_days=None, actor="test", reason="longer")


async def test_closed_windows_old_keys_and_elevations_go_and_open_ones_stay(
    runtime: Runtime, ahead: Iterator[list[int]]
) -> None:
    [days] = ahead
    who, now = await _person(runtime), utc_now()
    old = now - timedelta(days=RECORDS)
    async with runtime.db.transaction(ALL_TENANTS) as session:
        for window, held in ((f"{old:%Y-%m-%d}", 0), (f"{now:%Y-%m-%d}", 0), ("2001-01-01", 7), ("2001-01", 0)):
            row = BudgetWindow(scope="tenant", scope_id=who.tenant_id, window=window, limit_micro=1, warned={})
            row.held_micro = held
            session.add(row)
        session.add(BudgetCap(scope="tenant", scope_id=who.tenant_id, period="", limit_micro=1))
        for ends in (old, now + timedelta(hours=1)):
            session.add(
                Elevation(
                    id=new_id(), tenant_id=who.tenant_id, member_id=who.member_id, key_id="", hands=[], role="r",
                    minutes=1, reason="r", state="asked", asked_at=old, ends_at=ends,
                )
            )  # fmt: skip
        for code, ends in (("old", old), ("new", now + timedelta(hours=1))):
            claim = {"member_id": who.member_id, "key_days": 1, "created_by": who.member_id, "created_at": old}
            session.add(KeyClaim(id=new_id(), tenant_id=who.tenant_id, claim_hash=code, expires_at=ends, **claim))
        key = {"tenant_id": who.tenant_id, "member_id": who.member_id, "secret_hash": "", "created_at": old}
        session.add(ApiKey(id=new_id(), prefix="old", expires_at=old, **key))
        for name, made in (("old", now - timedelta(days=CONTENT)), ("new", now)):
            times = {"kept_at": made, "fresh_until": now, "gone_at": now + timedelta(days=1)}
            session.add(CachedAnswer(key=name, tenant_id=who.tenant_id, model="m", body={}, **times))
    report = await runtime.retention.run()
    assert report.deleted == {
        "budget_windows": 2, "api_keys": 1, "key_claims": 1, "elevations": 1, "cached_answers": 1,
    }  # fmt: skip
    async with runtime.db.read(ALL_TENANTS) as session:
        left = set(await session.scalars(select(BudgetWindow.window).where(BudgetWindow.scope_id == who.tenant_id)))
    assert left == {f"{now:%Y-%m-%d}", "2001-01-01"}
    assert await _count(runtime, BudgetCap.scope_id, BudgetCap.scope_id == who.tenant_id) == 1
    assert days == [0]


async def test_what_is_deleted_is_on_record_in_batches(
    runtime: Runtime, ahead: Iterator[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    [days] = ahead
    monkeypatch.setattr("app.runs.retention.BATCH", 2)
    who = await _person(runtime)
    for _ in range(5):
        await _run(runtime, who)
    days[0] = HISTORY
    first = await runtime.retention.run(max_batches=1)
    assert (first.deleted, first.is_finished) == ({"history": 2}, False)
    rest = await runtime.retention.run()
    assert (rest.deleted, rest.is_finished) == ({"history": 3}, True)
    async with runtime.db.read(who.principal) as session:
        events = list(await session.scalars(select(AuditEvent).where(AuditEvent.action == "retention.deleted")))
    assert [event.data["count"] for event in events] == [2, 2, 1]
    assert {event.data["kind"] for event in events} == {"history"}


async def test_housekeeping_does_it_once_a_day(runtime: Runtime, ahead: Iterator[list[int]]) -> None:
    [days] = ahead
    await runtime.retention.go_on()
    await _run(runtime, await _person(runtime))
    days[0] = HISTORY
    await runtime.housekeeping.once()
    assert await _count(runtime, RunContent.run_id, RunContent.history.is_not(None)) == 0
    done = runtime.retention.finished_at
    await runtime.housekeeping.once()
    assert runtime.retention.finished_at == done


def test_periods_out_of_order_or_too_short_are_refused() -> None:
    for wrong in ({"history": 91}, {"content": 401}, {"records": MIN_RECORDS_DAYS - 1}, {"history": 0}):
        with pytest.raises(ValueError, match=r"at most|greater"):
            Periods(**wrong)
