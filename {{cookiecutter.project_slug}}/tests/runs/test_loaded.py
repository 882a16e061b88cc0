"""What a look at runs loads: their state, never their content. Held by the columns asked for and bytes allocated."""

import re
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import InvalidRequestError

from app.db.base import Base, new_id, utc_now
from app.db.tenancy import ALL_TENANTS
from app.gateway.models import CachedAnswer
from app.identity.principal import Principal
from app.runs.intake import RunRequest
from app.runs.models import RunContent
from app.runs.progress import progress
from app.runtime import Runtime
from app.tools.models import Approval, ToolCall
from gates.rig import people
from gates.rig.runs import stored_run

pytestmark = pytest.mark.anyio
CONTENT = {
    ToolCall: {"result"},
    Approval: {"arguments", "change"},
    CachedAnswer: {"body"},
}
SMALL = {"granted", "used", "limits", "route", "warned", "roles", "scopes", "hands", "issuer_chain", "data", "output"}
RUNS, SIZE = 40, 200_000


@contextmanager
def _statements() -> Iterator[list[str]]:
    seen: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        seen.append(statement)

    event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(sa.Engine, "before_cursor_execute", note)


def _named_content(statements: list[str]) -> set[str]:
    words = {"task", "documents", "history"} | {column for columns in CONTENT.values() for column in columns}
    read = [statement for statement in statements if statement.lstrip().upper().startswith(("SELECT", "WITH"))]
    assert read, "nothing was asked: this test looks at nothing"
    return {word for word in words if any(re.search(rf"\.{word}\b", statement) for statement in read)}


async def _runs(runtime: Runtime, count: int, size: int = 10) -> tuple[Principal, list[str]]:
    mine = await people.person(runtime, await people.tenant(runtime), ["member"])
    documents = ({"name": "a.txt", "text": "x" * size},)
    ids = []
    for number in range(count):
        request = RunRequest("gone", "a task", documents)
        ids.append(await stored_run(runtime, mine.principal, request, idempotency_key=f"k{number}"))
    async with runtime.db.transaction(ALL_TENANTS) as session:
        await session.execute(sa.update(RunContent).values(history="y" * size))
    return mine.principal, ids


def test_every_large_column_is_loaded_only_where_it_is_named() -> None:
    """A new JSON or text column is either deferred or, being small, listed here."""
    of_template = [mapper for mapper in Base.registry.mappers if ".features." not in mapper.class_.__module__]
    of_template = [mapper for mapper in of_template if mapper.class_ is not RunContent]  # nobody lists these
    for mapper in of_template:
        for prop in mapper.column_attrs:
            if isinstance(prop.columns[0].type, sa.JSON | sa.Text) and prop.key not in SMALL:
                assert prop.deferred, f"{mapper.class_.__name__}.{prop.key}: deferred=True, deferred_raiseload=True"
                assert prop.key in CONTENT[mapper.class_]


async def test_content_that_nobody_asked_for_raises_when_touched(runtime: Runtime) -> None:
    caller, [run_id] = await _runs(runtime, 1)
    now = utc_now()
    async with runtime.db.transaction(ALL_TENANTS) as session:
        session.add(
            ToolCall(
                id=new_id(), tenant_id=caller.tenant_id, run_id=run_id, call_id="c", tool="t", effect="read",
                digest="", rule="r", state="done", result={"value": 1}, started_at=now,
            )
        )  # fmt: skip
    async with runtime.db.read(caller) as session:
        call = (await session.scalars(sa.select(ToolCall))).one()
        with pytest.raises(InvalidRequestError, match="raiseload"):
            _ = call.result


async def _lists(runtime: Runtime, caller: Principal, run_id: str) -> dict[str, Callable[[], Awaitable[object]]]:
    return {
        "list": lambda: runtime.intake.page(caller, before=None, limit=200),
        "poll": lambda: runtime.intake.get(caller, run_id),
        "wait": lambda: progress(runtime.db, caller, run_id),
        "replay": lambda: runtime.intake.start(
            caller, RunRequest("gone", "a task", ({"name": "a.txt", "text": "x" * 10},)), "k0"
        ),
        "calls": lambda: runtime.unknown.of_run(caller, run_id),
        "unknown": lambda: runtime.unknown.open(caller),
        "may it run": lambda: runtime.store.require_running(run_id),
    }


async def test_no_look_at_a_run_asks_for_its_content(runtime: Runtime) -> None:
    caller, [run_id] = await _runs(runtime, 1)
    for name, look in (await _lists(runtime, caller, run_id)).items():
        with _statements() as seen:
            await look()
        assert _named_content(seen) == set(), name


async def test_a_segment_has_all_it_needs(runtime: Runtime) -> None:
    _, [run_id] = await _runs(runtime, 1)
    begun = await runtime.store.begin_segment(run_id, 1)
    assert begun is not None
    assert (begun["task"], begun["history"], begun["documents"][0]["text"]) == ("a task", "y" * 10, "x" * 10)


async def test_tasks_of_many_runs_are_one_query(runtime: Runtime) -> None:
    caller, ids = await _runs(runtime, 5)
    with _statements() as seen:
        found = await runtime.intake.tasks(caller, set(ids))
    assert found == dict.fromkeys(ids, "a task")
    assert sum("FROM run_contents" in statement for statement in seen) == 1


async def test_a_page_allocates_nothing_of_what_its_runs_hold(runtime: Runtime) -> None:
    caller, ids = await _runs(runtime, RUNS, SIZE)
    await runtime.intake.page(caller, before=None, limit=1)  # what is allocated once
    tracemalloc.start()
    try:
        runs = await runtime.intake.page(caller, before=None, limit=200)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(runs) == len(ids)
    assert peak < RUNS * SIZE / 4, f"{peak} bytes for {RUNS} runs with {2 * SIZE} characters each"
