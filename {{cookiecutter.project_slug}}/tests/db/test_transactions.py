"""A transaction ends whole, whatever becomes of who began it."""

import anyio
import pytest
from sqlalchemy import select

from app.identity.models import Member
from app.runtime import Runtime
from gates.rig import people

pytestmark = pytest.mark.anyio


async def test_who_is_cancelled_in_a_transaction_leaves_its_connection_as_it_was(runtime: Runtime) -> None:
    """As a client does that hangs up on a stream: at any moment, and every await from then on is cancelled."""
    mine = await people.person(runtime, await people.tenant(runtime), ["member"])

    async def look_again_and_again() -> None:
        while True:
            async with runtime.db.transaction(mine.principal) as session:
                await session.scalars(select(Member))

    for moment in range(60):
        with anyio.move_on_after(0.005 + moment * 0.0003):
            await look_again_and_again()
    # On every connection of the pool, what is written is there for others.
    added = [await runtime.members.add(mine.tenant_id, f"m{number}", ["member"], "test") for number in range(20)]
    async with runtime.db.transaction(mine.principal) as session:
        found = set(await session.scalars(select(Member.id)))
    assert found == {mine.member_id, *added}
