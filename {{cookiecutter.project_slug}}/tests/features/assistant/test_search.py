"""Searching tickets: words are text, and no word is no search."""

from dataclasses import dataclass

import pytest

from app.db.base import new_id, utc_now
from app.features.assistant import queries
from app.features.assistant.models import Ticket
from app.features.assistant.tools import search_tickets
from app.identity.principal import Principal
from app.runtime import Runtime
from app.tools.caller import CallerOfRun
from app.tools.spec import ToolContext, ToolFailure
from gates.rig import people

pytestmark = pytest.mark.anyio
TITLES = ("50% off", "50 euros off", "user_name is taken", "username is taken", "A \\ in a path", "Über alles")


@dataclass(frozen=True)
class Desk:
    runtime: Runtime
    who: Principal

    async def search(self, query: str) -> list[str]:
        caller = CallerOfRun(
            "run-1", self.who.tenant_id, self.who.member_id, "assistant", frozenset({"tickets:read"}), key_id="",
            reads_documents=False, tools=frozenset({"search_tickets"}),
        )  # fmt: skip
        context = ToolContext(self.who, "run-1", "c1", "key", self.runtime.db, self.runtime.egress, caller)
        return sorted(ticket.title for ticket in await search_tickets.function(context, query=query, limit=20))


@pytest.fixture
async def desk(runtime: Runtime) -> Desk:
    who = await people.person(runtime, await people.tenant(runtime), ["member"])
    async with runtime.db.transaction(who.principal) as session:
        for title in TITLES:
            session.add(
                Ticket(
                    id=new_id(),
                    tenant_id=who.tenant_id,
                    title=title,
                    body="text",
                    priority="normal",
                    created_by=who.member_id,
                    request_key=new_id(),
                    created_at=utc_now(),
                )
            )
    return Desk(runtime, who.principal)


async def test_a_word_is_found_as_it_is_written_and_in_other_letters(desk: Desk) -> None:
    assert await desk.search("50%") == ["50% off"]
    assert await desk.search("USER_name") == ["user_name is taken"]
    assert await desk.search("%") == ["50% off"]
    assert await desk.search("_") == ["user_name is taken"]
    assert await desk.search("\\") == ["A \\ in a path"]
    assert await desk.search("/") == []
    assert await desk.search("50%_off %%") == []
    assert await desk.search("euros username") == ["50 euros off", "username is taken"]


@pytest.mark.parametrize("blank", [" ", "\t\n", "\u00a0", "\u2003 "])
async def test_a_blank_query_matches_nothing_and_the_model_is_told(desk: Desk, blank: str) -> None:
    with pytest.raises(ToolFailure, match="no word to search for"):
        await desk.search(blank)
    async with desk.runtime.db.transaction(desk.who) as session:
        assert await queries.matching(session, [], 20) == []
