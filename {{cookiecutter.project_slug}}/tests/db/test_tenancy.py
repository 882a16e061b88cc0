"""The tenant filter is structural: it holds for queries whose author never thought of it."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, func, insert, select, text, update

from app.budgets.models import ModelCall
from app.db.base import new_id, utc_now
from app.db.engine import TransactionOpen, require_no_transaction
from app.db.tenancy import ALL_TENANTS
from app.identity.models import Member
from app.runtime import Runtime
from gates.rig import people
from gates.rig.people import Person

pytestmark = pytest.mark.anyio


async def _two(runtime: Runtime) -> tuple[Person, Person]:
    first, second = [await people.person(runtime, await people.tenant(runtime), ["member"]) for _ in range(2)]
    return first, second


async def test_a_plain_select_sees_one_tenant(runtime: Runtime) -> None:
    mine, _ = await _two(runtime)
    async with runtime.db.transaction(mine.principal) as session:
        assert [m.id for m in await session.scalars(select(Member))] == [mine.member_id]


async def test_columns_aggregates_joins_and_subqueries_see_one_tenant(runtime: Runtime) -> None:
    mine, theirs = await _two(runtime)
    async with runtime.db.transaction(ALL_TENANTS) as session:
        for who in (mine, theirs):
            call = ModelCall(
                id=new_id(), tenant_id=who.tenant_id, member_id=who.member_id, run_id="r", feature="f", model="m",
                prompt_version="p", state="settled", held_micro=5, cost_micro=5,
                started_at=utc_now(), expires_at=utc_now(),
            )  # fmt: skip
            session.add(call)
    async with runtime.db.transaction(mine.principal) as session:
        assert list(await session.scalars(select(Member.id))) == [mine.member_id]
        assert await session.scalar(select(func.count(Member.id))) == 1
        assert await session.scalar(select(func.sum(ModelCall.cost_micro)).where(ModelCall.run_id == "r")) == 5
        joined = select(Member.id, ModelCall.id).join(ModelCall, ModelCall.run_id == "r")
        assert len((await session.execute(joined)).all()) == 1
        inner = select(ModelCall.member_id).scalar_subquery()
        assert list(await session.scalars(select(Member.id).where(Member.id == inner))) == [mine.member_id]


async def test_bulk_updates_and_deletes_touch_one_tenant(runtime: Runtime) -> None:
    mine, theirs = await _two(runtime)
    async with runtime.db.transaction(mine.principal) as session:
        await session.execute(update(Member).values(name="renamed"))
        await session.execute(delete(Member).where(Member.id == theirs.member_id))
    async with runtime.db.transaction(ALL_TENANTS) as session:
        other = await session.get(Member, theirs.member_id)
    assert other is not None
    assert other.name == theirs.name


async def test_a_row_for_another_tenant_is_refused(runtime: Runtime) -> None:
    mine, theirs = await _two(runtime)

    async def plant() -> None:
        async with runtime.db.transaction(mine.principal) as session:
            session.add(Member(id=new_id(), tenant_id=theirs.tenant_id, name="planted", roles=[], created_at=utc_now()))

    with pytest.raises(RuntimeError, match="another tenant"):
        await plant()


SHAPES: dict[str, Callable[[Person], tuple[Any, Any]]] = {
    "text": lambda _theirs: (text("select * from members"), None),
    "core select": lambda _theirs: (select(Member.__table__), None),
    "core update": lambda _theirs: (update(Member.metadata.tables["members"]).values(name="x"), None),
    "from statement": lambda _theirs: (select(Member).from_statement(text("select * from members")), None),
    "insert": lambda theirs: (insert(Member).values(id="x", tenant_id=theirs.tenant_id, name="x"), None),
    "bulk update": lambda theirs: (update(Member), [{"id": theirs.member_id, "name": "x"}]),
    "move": lambda theirs: (update(Member).values(tenant_id=theirs.tenant_id), None),
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_statement_that_would_escape_the_filter_is_refused(runtime: Runtime, shape: str) -> None:
    mine, theirs = await _two(runtime)
    statement, parameters = SHAPES[shape](theirs)

    async def execute() -> None:
        async with runtime.db.transaction(mine.principal) as session:
            await session.execute(statement, parameters)

    with pytest.raises(RuntimeError, match="tenant"):
        await execute()


async def test_a_get_by_primary_key_does_not_reach_another_tenant(runtime: Runtime) -> None:
    mine, theirs = await _two(runtime)
    async with runtime.db.transaction(mine.principal) as session:
        assert await session.get(Member, theirs.member_id) is None


async def test_a_model_or_tool_call_inside_a_transaction_is_refused(runtime: Runtime) -> None:
    require_no_transaction("model call")
    async with runtime.db.transaction(ALL_TENANTS):
        with pytest.raises(TransactionOpen, match="model call"):
            require_no_transaction("model call")
    require_no_transaction("model call")
