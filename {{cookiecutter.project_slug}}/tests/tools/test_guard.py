"""Every tool call passes the guard, whatever the model says; checked where the effect would show."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Annotated, Any

import anyio
import pytest
from pydantic import SecretStr, StringConstraints
from sqlalchemy import select, update
from sqlalchemy.orm import undefer

from app.db.base import utc_now
from app.db.tenancy import ALL_TENANTS
from app.errors import ServiceHalted, Unauthenticated
from app.identity.models import Member
from app.identity.roles import Roles
from app.policy.decision import AskHuman, Effect
from app.policy.rules import Policy, Rule
from app.runtime import Runtime
from app.tools.call_identity import plain_id
from app.tools.caller import CallerOfRun
from app.tools.calls import Call, CallBook
from app.tools.egress import Egress
from app.tools.guard import Guard
from app.tools.models import Approval, ToolCall
from app.tools.outcome import Invalid, Parked, Performed, Refused
from app.tools.spec import ToolContext, ToolFailure, ToolSpec, tool
from app.tools.unknown import UnknownCalls
from gates.rig import people
from gates.rig.people import Person

pytestmark = pytest.mark.anyio
EFFECTS: list[str] = []  # written by the tools themselves: what really happened

Word = Annotated[str, StringConstraints(min_length=1, max_length=20)]


@tool(effect=Effect.READ, permission="things:read")
async def read_thing(context: ToolContext, name: Word) -> str:
    """Read."""
    EFFECTS.append(f"read {name}")
    return name


@tool(effect=Effect.WRITE, permission="things:write")
async def write_thing(context: ToolContext, name: Word) -> str:
    """Write."""
    EFFECTS.append(f"write {name} {context.idempotency_key}")
    return name


@tool(effect=Effect.WRITE, permission="things:write", idempotent=True)
async def write_again(context: ToolContext, name: Word) -> str:
    """Write in a way that may be started twice."""
    EFFECTS.append(f"write {name} {context.idempotency_key}")
    return name


@tool(effect=Effect.READ, permission="things:read")
async def break_down(context: ToolContext) -> str:
    """Fail in a way nobody planned."""
    raise ZeroDivisionError("secret internals")


@tool(effect=Effect.READ, permission="things:read")
async def fail_politely(context: ToolContext) -> str:
    """Fail."""
    raise ToolFailure("out of paper")


@tool(effect=Effect.READ, permission="things:read", timeout=timedelta(seconds=0.05))
async def take_long(context: ToolContext) -> str:
    """Wait."""
    await anyio.sleep(5)
    return "late"


@tool(effect=Effect.READ, permission="things:read", output_limit=100)
async def talk_a_lot(context: ToolContext) -> str:
    """Talk."""
    return "x" * 10_000


@tool(effect=Effect.READ, permission="things:read")
async def count_things(context: ToolContext, number: int) -> int:
    """Count."""
    return number


@tool(effect=Effect.WRITE, permission="things:write")
async def break_while_writing(context: ToolContext) -> str:
    """Fail after something may have happened."""
    raise ConnectionResetError


@tool(effect=Effect.READ, permission="things:read")
async def hang(context: ToolContext) -> str:
    """Hang."""
    await anyio.sleep(60)
    return "late"


TOOLS: dict[str, ToolSpec] = {
    spec.name: spec
    for spec in (
        read_thing,
        write_thing,
        write_again,
        break_down,
        fail_politely,
        take_long,
        talk_a_lot,
        count_things,
        hang,
        break_while_writing,
    )
}
EVERYTHING = frozenset({"things:read", "things:write"})


@dataclass
class Stage:
    runtime: Runtime
    guard: Guard
    member: Person
    approver: Person
    caller: CallerOfRun

    async def perform(self, tool_name: str, call_id: str = "c1", *, approved: bool = False, **arguments: Any) -> Any:
        return await self.guard.perform(self.caller, call_id, tool_name, arguments, approved=approved)

    async def approval(self, call_id: str = "c1") -> Approval:
        async with self.runtime.db.transaction(self.member.principal) as session:
            found = await session.scalar(select(Approval).where(Approval.call_id == call_id))
        assert found is not None
        return found

    async def mark(self, state: str, call_id: str = "c1", **values: Any) -> None:
        """Set an approval's state directly: the decision itself is tested in tests/runs."""
        async with self.runtime.db.transaction(ALL_TENANTS) as session:
            chosen = update(Approval).where(Approval.call_id == call_id, Approval.tenant_id == self.member.tenant_id)
            await session.execute(chosen.values(state=state, decided_by=self.approver.member_id, **values))

    async def record(self, call_id: str = "c1") -> ToolCall:
        async with self.runtime.db.transaction(self.member.principal) as session:
            query = select(ToolCall).options(undefer(ToolCall.result)).where(ToolCall.call_id == call_id)
            found = await session.scalar(query)
        assert found is not None
        return found


@pytest.fixture
async def stage(runtime: Runtime) -> Stage:
    EFFECTS.clear()
    roles = runtime.directory.roles._table | {"maker": EVERYTHING, "reader": frozenset({"things:read"})}
    table = Roles(roles)
    directory = replace(runtime.directory, roles=table)
    runtime = replace(runtime, directory=directory, members=replace(runtime.members, roles=table))
    tenant_id = await people.tenant(runtime)
    member = await people.person(runtime, tenant_id, ["maker"])
    approver = await people.person(runtime, tenant_id, ["approver"])
    guard = Guard(
        runtime.db, directory, runtime.board, runtime.policy, Egress(()), TOOLS, approval_ttl=timedelta(minutes=5)
    )
    caller = CallerOfRun(
        "run-1",
        tenant_id,
        member.member_id,
        "assistant",
        EVERYTHING,
        key_id="",
        reads_documents=False,
        tools=frozenset(TOOLS),
    )
    return Stage(runtime, guard, member, approver, caller)


async def test_an_allowed_read_runs_once_and_is_on_record(stage: Stage) -> None:
    assert await stage.perform("read_thing", name="a") == Performed("a")
    assert EFFECTS == ["read a"]
    assert (await stage.record()).state == "done"


async def test_the_same_call_again_gets_the_recorded_answer_and_no_second_effect(stage: Stage) -> None:
    await stage.perform("read_thing", name="a")
    assert await stage.perform("read_thing", name="a") == Performed("a")
    assert EFFECTS == ["read a"]


async def test_a_call_id_used_for_another_call_gets_neither_its_answer_nor_an_effect(stage: Stage) -> None:
    await stage.perform("read_thing", name="a")
    assert isinstance(await stage.perform("read_thing", name="b"), Refused)
    assert isinstance(await stage.perform("write_thing", name="a", approved=True), Refused)
    assert EFFECTS == ["read a"]


async def test_a_number_without_an_exact_form_is_refused(stage: Stage) -> None:
    assert isinstance(await stage.perform("count_things", number=2**60), Invalid)
    assert await stage.perform("count_things", "c2", number=7) == Performed(7)


async def test_a_run_that_ends_during_a_tool_leaves_its_outcome_as_unknown(stage: Stage) -> None:
    with anyio.move_on_after(0.3):
        await stage.perform("hang")
    assert (await stage.record()).state == "unknown"


@pytest.mark.parametrize("turns", [0, 1, 2, 5, 10, 20, 40, 80])
async def test_a_call_that_is_cut_off_natively_is_never_left_as_started(stage: Stage, turns: int) -> None:
    """The agent framework cancels the tasks of tools. Whenever that is: in the intent, at work, in the outcome."""
    for number, name in enumerate(("hang", "count_things")):
        call_id = f"c{number}"
        arguments: dict[str, Any] = {"number": 1} if name == "count_things" else {}
        task = asyncio.create_task(stage.perform(name, call_id, **arguments))
        for _ in range(turns):
            await asyncio.sleep(0)
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.gather(task, return_exceptions=True)
        async with stage.runtime.db.transaction(stage.member.principal) as session:
            states = set(await session.scalars(select(ToolCall.state).where(ToolCall.call_id == call_id)))
        assert states <= ({"unknown"} if name == "hang" else {"unknown", "done"})


async def test_an_outcome_is_recorded_though_its_run_is_cut_off_at_that_moment(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = CallBook.finish
    task: list[asyncio.Task[Any]] = []

    async def cut_off(*told: Any, **facts: Any) -> Any:
        task[0].cancel()
        await asyncio.sleep(0)
        return await finish(*told, **facts)

    monkeypatch.setattr(CallBook, "finish", cut_off)
    task.append(asyncio.create_task(stage.perform("read_thing", name="a")))
    with pytest.raises(asyncio.CancelledError):
        await task[0]
    record = await stage.record()
    assert (record.state, record.result) == ("done", {"value": "a"})


async def test_an_unknown_tool_is_refused(stage: Stage) -> None:
    assert isinstance(await stage.perform("drop_database"), Refused)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"name": 7}, {"name": ""}, {"name": "x" * 21}, {"name": "a", "tenant_id": "other"}, {"name": None}],
)
async def test_arguments_that_do_not_fit_the_schema_do_nothing(stage: Stage, arguments: Mapping[str, Any]) -> None:
    outcome = await stage.guard.perform(stage.caller, "c1", "write_thing", arguments, approved=True)
    assert isinstance(outcome, Invalid)
    assert EFFECTS == []


async def test_a_tool_the_member_has_no_permission_for_is_refused(stage: Stage) -> None:
    stage.caller = replace(stage.caller, granted=frozenset({"things:read"}))
    assert isinstance(await stage.perform("write_thing", name="a", approved=True), Refused)
    assert EFFECTS == []


async def test_a_key_revoked_during_the_run_stops_its_next_call(stage: Stage) -> None:
    stage.caller = replace(stage.caller, key_id=stage.member.principal.key_id)
    assert await stage.perform("read_thing", name="a") == Performed("a")
    await stage.runtime.keys.revoke(stage.member.tenant_id, stage.member.principal.key_id, "test")
    with pytest.raises(Unauthenticated):
        await stage.perform("read_thing", "c2", name="b")
    assert EFFECTS == ["read a"]


async def test_a_permission_lost_during_the_run_stops_its_next_call(stage: Stage) -> None:
    await stage.perform("read_thing", name="a")
    async with stage.runtime.db.transaction(ALL_TENANTS) as session:
        await session.execute(update(Member).where(Member.id == stage.member.member_id).values(roles=[]))
    assert isinstance(await stage.perform("read_thing", "c2", name="b"), Refused)
    async with stage.runtime.db.transaction(ALL_TENANTS) as session:
        gone = update(Member).where(Member.id == stage.member.member_id)
        await session.execute(gone.values(disabled_at=utc_now()))
    with pytest.raises(Unauthenticated):
        await stage.perform("read_thing", "c3", name="c")
    assert EFFECTS == ["read a"]


async def test_a_write_waits_and_happens_once_after_approval(stage: Stage) -> None:
    assert isinstance(await stage.perform("write_thing", name="a"), Parked)
    assert EFFECTS == []
    await stage.mark("approved")
    assert await stage.perform("write_thing", name="a", approved=True) == Performed("a")
    assert await stage.perform("write_thing", name="a", approved=True) == Performed("a")
    assert EFFECTS == ["write a run-1:c1"]
    assert (await stage.approval()).state == "used"


async def test_asking_twice_for_the_same_call_is_one_question(stage: Stage) -> None:
    first, second = await stage.perform("write_thing", name="a"), await stage.perform("write_thing", name="a")
    assert first == second


@pytest.mark.parametrize("state", ["pending", "denied", "expired", "used"])
async def test_the_word_approved_is_worth_nothing_without_an_approval(stage: Stage, state: str) -> None:
    await stage.perform("write_thing", name="a")
    await stage.mark(state)
    assert isinstance(await stage.perform("write_thing", name="a", approved=True), Refused)
    assert EFFECTS == []


async def test_an_approval_does_not_cover_other_arguments(stage: Stage) -> None:
    await stage.perform("write_thing", name="a")
    await stage.mark("approved")
    assert isinstance(await stage.perform("write_thing", name="b", approved=True), Refused)
    assert EFFECTS == []


async def test_an_approval_does_not_cover_another_call_or_run(stage: Stage) -> None:
    await stage.perform("write_thing", name="a")
    await stage.mark("approved")
    assert isinstance(await stage.perform("write_thing", "c2", name="a", approved=True), Refused)
    stage.caller = replace(stage.caller, run_id="run-2")
    assert isinstance(await stage.perform("write_thing", name="a", approved=True), Refused)
    assert EFFECTS == []


async def test_an_approval_is_void_after_its_time_and_under_another_policy(stage: Stage) -> None:
    await stage.perform("write_thing", name="a")
    await stage.mark("approved", expires_at=utc_now() - timedelta(seconds=1))
    assert isinstance(await stage.perform("write_thing", name="a", approved=True), Refused)
    await stage.perform("write_thing", "c2", name="a")
    await stage.mark("approved", "c2")
    other = Policy.of((*stage.runtime.policy.rules, Rule(id="new", decision="deny", tools=("x",), reason="r")))
    stage.guard = replace(stage.guard, policy=other)
    assert isinstance(await stage.perform("write_thing", "c2", name="a", approved=True), Refused)
    assert EFFECTS == []


async def test_one_s_own_approval_is_void(stage: Stage) -> None:
    await stage.perform("write_thing", name="a")
    await stage.mark("approved")
    async with stage.runtime.db.transaction(ALL_TENANTS) as session:
        own = update(Approval).where(Approval.tenant_id == stage.member.tenant_id)
        await session.execute(own.values(decided_by=stage.member.member_id))
    assert isinstance(await stage.perform("write_thing", name="a", approved=True), Refused)
    assert EFFECTS == []


async def test_an_allowed_write_asks_once_the_run_has_read_a_tool_s_result(stage: Stage) -> None:
    alone = Policy.of((Rule(id="all", decision="allow", reason="r"),))
    stage.guard = replace(stage.guard, policy=alone)
    assert await stage.perform("write_thing", name="a") == Performed("a")
    assert isinstance(await stage.perform("write_thing", "c2", name="b"), Parked)
    assert EFFECTS == ["write a run-1:c1"]


async def test_an_allowed_write_asks_when_the_run_reads_documents(stage: Stage) -> None:
    alone = Policy.of((Rule(id="all", decision="allow", reason="r"),))
    stage.guard = replace(stage.guard, policy=alone)
    stage.caller = replace(stage.caller, reads_documents=True)
    assert isinstance(await stage.perform("write_thing", name="a"), Parked)
    assert EFFECTS == []


@pytest.mark.parametrize("switch", ["runs", "tool:read_thing", "effect:read", "feature:assistant"])
async def test_a_kill_switch_stops_the_call(stage: Stage, switch: str) -> None:
    await stage.runtime.board.throw(switch, "drill", "test")
    try:
        with pytest.raises(ServiceHalted):
            await stage.perform("read_thing", name="a")
    finally:
        await stage.runtime.board.release(switch, "drill over", "test")
    assert EFFECTS == []
    assert await stage.perform("read_thing", name="a") == Performed("a")


async def test_failures_reach_the_model_without_internals(stage: Stage) -> None:
    crashed = await stage.perform("break_down", "c1")
    assert crashed == Refused("The tool failed.")
    assert await stage.perform("fail_politely", "c2") == Refused("The tool failed: out of paper")
    slow = await stage.perform("take_long", "c3")
    assert isinstance(slow, Refused)
    assert "unknown" in slow.reason
    assert (await stage.record("c3")).state == "unknown"


async def test_a_long_result_is_cut_and_says_so(stage: Stage) -> None:
    outcome = await stage.perform("talk_a_lot")
    assert isinstance(outcome, Performed)
    assert outcome.value == {"truncated": True, "text": '"' + "x" * 99}


async def _crash_between_intent_and_outcome(stage: Stage, spec: ToolSpec) -> tuple[CallBook, Call]:
    """Leave behind what a killed process leaves: an approved call whose intent is on record."""
    await stage.perform(spec.name, name="a")
    await stage.mark("approved")
    principal = await stage.runtime.directory.principal_of(stage.member.tenant_id, stage.member.member_id)
    book = CallBook(stage.runtime.db, stage.runtime.policy.version, timedelta(minutes=5))
    call = Call(stage.caller, "c1", spec, spec.arguments(name="a"), principal)
    assert await book.start_approved(call, AskHuman("side-effects", "test")) is None
    return book, call


async def test_what_comes_late_from_a_worker_taken_for_dead_leaves_what_a_person_found_out(stage: Stage) -> None:
    book, call = await _crash_between_intent_and_outcome(stage, write_thing)
    await stage.perform("write_thing", name="a", approved=True)  # by its successor, which finds it unknown
    calls = UnknownCalls(stage.runtime.db)
    await calls.resolve(stage.approver.principal, (await stage.record()).id, happened=False, reason="nothing there")
    await book.finish(call, "done", Performed("a"))
    record = await stage.record()
    assert (record.state, record.resolution) == ("unknown", "did_not_happen")


async def test_what_comes_late_and_before_a_person_looked_is_known(stage: Stage) -> None:
    book, call = await _crash_between_intent_and_outcome(stage, write_thing)
    await stage.perform("write_thing", name="a", approved=True)
    await book.finish(call, "done", Performed("a"))
    assert (await stage.record()).state == "done"
    assert await UnknownCalls(stage.runtime.db).open(stage.approver.principal) == []


async def test_a_call_whose_outcome_is_no_longer_on_record_is_told_as_refused(stage: Stage) -> None:
    """Retention takes results away; what failed is never told as done."""
    await _crash_between_intent_and_outcome(stage, write_thing)
    await _set_record(stage, state="failed", result=None)
    assert isinstance(await stage.perform("write_thing", name="a", approved=True), Refused)


async def test_after_a_crash_an_unrepeatable_effect_is_unknown_and_never_run_again(stage: Stage) -> None:
    await _crash_between_intent_and_outcome(stage, write_thing)
    for _ in range(2):
        outcome = await stage.perform("write_thing", name="a", approved=True)
        assert isinstance(outcome, Refused)
        assert "unknown" in outcome.reason
    assert EFFECTS == []
    assert (await stage.record()).state == "unknown"


async def test_after_a_crash_a_repeatable_effect_is_started_again_with_its_key(stage: Stage) -> None:
    await _crash_between_intent_and_outcome(stage, write_again)
    assert await stage.perform("write_again", name="a", approved=True) == Performed("a")
    assert EFFECTS == ["write a run-1:c1"]


async def test_an_approved_call_that_may_not_run_twice_is_started_by_one_attempt(stage: Stage) -> None:
    """Two workers that both hold the segment for a moment: an old one that is not quite dead, and the next owner."""
    await stage.perform("write_thing", name="a")
    await stage.mark("approved")
    outcomes = await asyncio.gather(
        *(stage.perform("write_thing", name="a", approved=True) for _ in range(4)), return_exceptions=True
    )
    assert EFFECTS == ["write a run-1:c1"], outcomes


async def test_a_call_at_work_when_the_policy_changed_is_told_as_unknown(stage: Stage) -> None:
    await stage.perform("read_thing", name="a")
    await _set_record(stage, state="started")
    stage.guard = replace(stage.guard, policy=Policy.of((*stage.runtime.policy.rules, *stage.runtime.policy.rules[:1])))
    assert isinstance(await stage.perform("read_thing", name="a"), Refused)
    assert (await stage.record()).state == "unknown"


async def _set_record(stage: Stage, **values: Any) -> None:
    async with stage.runtime.db.transaction(ALL_TENANTS) as session:
        await session.execute(update(ToolCall).where(ToolCall.tenant_id == stage.member.tenant_id).values(**values))


async def test_a_failure_s_text_taints_like_a_result(stage: Stage) -> None:
    stage.guard = replace(stage.guard, policy=Policy.of((Rule(id="all", decision="allow", reason="r"),)))
    assert isinstance(await stage.perform("fail_politely"), Refused)
    assert isinstance(await stage.perform("write_thing", "c2", name="b"), Parked)


async def test_an_unplanned_failure_of_an_unrepeatable_effect_is_unknown(stage: Stage) -> None:
    stage.guard = replace(stage.guard, policy=Policy.of((Rule(id="all", decision="allow", reason="r"),)))
    assert isinstance(await stage.perform("break_while_writing"), Refused)
    assert (await stage.record()).state == "unknown"


async def test_a_policy_that_changed_since_the_question_is_said_and_recorded(stage: Stage) -> None:
    await stage.perform("write_thing", name="a")
    await stage.mark("approved")
    stage.guard = replace(stage.guard, policy=Policy.of((*stage.runtime.policy.rules, *stage.runtime.policy.rules[:1])))
    assert isinstance(await stage.perform("write_thing", name="a", approved=True), Refused)
    assert (await stage.record()).state == "denied"


@pytest.mark.parametrize("arguments", [{"name": "x" * 5 + "\ud800"}, {"name": [[[]]] * 3}, {"name": float("nan")}])
async def test_arguments_that_no_store_can_hold_are_invalid(stage: Stage, arguments: dict[str, Any]) -> None:
    assert isinstance(await stage.guard.perform(stage.caller, "c1", "read_thing", arguments, approved=False), Invalid)


async def test_arguments_nested_beyond_reason_are_invalid(stage: Stage) -> None:
    deep: Any = "end"
    for _ in range(5_000):
        deep = [deep]
    assert isinstance(
        await stage.guard.perform(stage.caller, "c1", "read_thing", {"name": deep}, approved=False), Invalid
    )


@pytest.mark.parametrize("call_id", ["x" * 500, "nul\0", "\ud800", "", "spaces in it"])
def test_a_call_id_is_made_storable_and_stays_distinct(call_id: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", plain_id(call_id))
    assert plain_id(call_id) != plain_id(call_id + "x")
    assert plain_id("call_1") == "call_1"


def test_an_argument_hidden_from_the_approver_cannot_be_declared() -> None:
    async def pay(context: ToolContext, pin: SecretStr) -> str:
        """Pay."""
        return ""

    with pytest.raises(TypeError, match="hidden"):
        tool(effect=Effect.WRITE, permission="x:y")(pay)


async def test_a_tool_without_a_docstring_cannot_be_declared() -> None:
    async def silent(context: ToolContext) -> str:
        return ""

    with pytest.raises(TypeError, match="docstring"):
        tool(effect=Effect.READ, permission="x:y")(silent)
