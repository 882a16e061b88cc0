"""Many runs are cut off in their tool calls while others sign in. On both databases.

`CUT_OFF_RUNS` says how many; a thousand take some minutes of processor time on each.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from app.bootstrap import open_runtime
from app.budgets.models import BudgetWindow, ModelCall
from app.db.base import new_id
from app.db.tenancy import ALL_TENANTS
from app.runs.intake import RunRequest
from app.runtime import Runtime
from app.settings import load_settings
from app.tools.models import ToolCall
from app.tools.spec import ToolContext
from gates.rig import people

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1_800)]
RUNS, AT_ONCE, CALLERS = int(os.environ.get("CUT_OFF_RUNS", "200")), 20, 50
HANGS_S = 900.0  # some hundred times what a run takes
TOOL = "search_tickets"
WAYS = ("its task is cancelled", "its time is up", "its neighbour fails", "its caller cancels it")


class NeighbourFailed(Exception):
    pass


class CutOff:
    """Runs of the example, whose tool works until its run is cut off."""

    def __init__(self, runtime: Runtime, member: people.Person) -> None:
        self.runtime, self.member = runtime, member
        self.working: dict[str, asyncio.Event] = {}
        self.chance = random.Random(1000)  # noqa: S311 - a storm that can be repeated
        tools: Any = runtime.guard.tools
        tools[TOOL] = replace(tools[TOOL], function=self._work, timeout=timedelta(seconds=HANGS_S))

    async def _work(self, context: ToolContext, **_arguments: object) -> list[Any]:
        """Asks the store again and again, as tools and the models of delegates do."""
        for number in range(1_000_000):
            await self.runtime.board.require_clear("runs", f"tool:{TOOL}")
            self.working[context.run_id].set()
            await asyncio.sleep(0.05 * min(number, 20))
        return []

    async def run(self, way: str) -> None:
        request = RunRequest("assistant", "Look for it.", ())
        run, _ = await self.runtime.intake.start(self.member.principal, request, new_id())
        working = self.working[run.id] = asyncio.Event()
        advance = self.runtime.segments.advance
        match way:
            case "its task is cancelled":
                task = asyncio.create_task(advance(run.id, 1))
                await self._moment(working)
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            case "its time is up":
                with suppress(TimeoutError):
                    async with asyncio.timeout(None) as limit:
                        waiter = asyncio.create_task(self._moment(working))
                        waiter.add_done_callback(lambda _: limit.reschedule(0))
                        await advance(run.id, 1)
            case "its neighbour fails":

                async def fail() -> None:
                    await self._moment(working)
                    raise NeighbourFailed

                with suppress(BaseExceptionGroup):
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(fail())
                        tasks.create_task(advance(run.id, 1))
            case _:
                task = asyncio.create_task(advance(run.id, 1))
                await self._moment(working)
                await self.runtime.store.cancel(self.member.principal, run.id, "no longer wanted")
                assert await task == "cancelled"

    async def _moment(self, working: asyncio.Event) -> None:
        await working.wait()
        await asyncio.sleep(self.chance.choice([0.0, 0.0, 0.001, 0.05]))


@pytest.fixture
async def runtime(database_url: str) -> AsyncGenerator[Runtime]:
    """With time for a loaded machine: SQLite's lock goes to whoever happens to ask when it is free."""
    settings = load_settings(database_url=database_url, environment="test", database_timeout_s=60)
    async with open_runtime(settings, durable=False) as built:
        yield built


async def test_runs_are_cut_off_while_others_sign_in(runtime: Runtime) -> None:
    tenant_id = await people.tenant(runtime)
    member = await people.person(runtime, tenant_id, ["member"])
    callers = [await people.person(runtime, tenant_id, ["viewer"]) for _ in range(5)]
    cut, begun, over = CutOff(runtime, member), asyncio.Semaphore(AT_ONCE), asyncio.Event()
    signed_in: Counter[int] = Counter()

    async def one(number: int) -> None:
        async with begun:
            await cut.run(WAYS[number % len(WAYS)])

    async def sign_in(number: int) -> None:
        while not over.is_set():
            caller = callers[number % len(callers)]
            found = await runtime.directory.authenticate(caller.key)
            assert found.member_id == caller.member_id
            signed_in[number] += 1
            await asyncio.sleep(1)

    runs = [asyncio.create_task(one(number)) for number in range(RUNS)]
    signing_in = [asyncio.create_task(sign_in(number)) for number in range(CALLERS)]
    done, hanging = await asyncio.wait(runs, timeout=HANGS_S)
    assert not hanging
    for each in done:
        await each
    before = signed_in.copy()
    await asyncio.wait(signing_in, timeout=5)  # once more, now that all runs are over
    over.set()
    done, hanging = await asyncio.wait(signing_in, timeout=HANGS_S)
    assert not hanging, "somebody waits for ever to sign in"
    for each in done:
        await each  # nobody innocent was cancelled
    assert all(signed_in[number] > before[number] >= 1 for number in range(CALLERS))
    await _require_clean(runtime, tenant_id)


async def _require_clean(runtime: Runtime, tenant_id: str) -> None:
    """Outcomes on record, holds given back, books that agree, connections in the pool."""
    await runtime.ledger._commits.close()
    async with runtime.db.transaction(ALL_TENANTS) as session:
        calls = select(ToolCall.state, func.count()).where(ToolCall.tenant_id == tenant_id).group_by(ToolCall.state)
        outcomes = {str(state): int(count) for state, count in await session.execute(calls)}
        mine = ModelCall.tenant_id == tenant_id
        held = await session.scalar(select(func.count()).where(mine, ModelCall.state == "held"))
        cost = await session.scalar(select(func.sum(ModelCall.cost_micro)).where(mine))
        windows = select(BudgetWindow.spent_micro, BudgetWindow.held_micro).where(BudgetWindow.scope_id == tenant_id)
        books = {(int(spent), int(still_held)) for spent, still_held in await session.execute(windows)}
    assert outcomes == {"unknown": RUNS}
    assert held == 0
    assert books == {(cost, 0)}
    assert runtime.db._engine.pool.checkedout() == 0  # type: ignore[attr-defined]
