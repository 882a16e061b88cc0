"""A second feature of the rig's own, for what a matrix of roles should not call by the way: tools that reach out, take
long or kill their process, agents that ask other agents, and the tools of somebody else's server.
"""

import os
import signal
import time
from datetime import timedelta
from typing import Annotated

import anyio
from pydantic import BaseModel, StringConstraints

from app.manifest import Feature
from app.policy.decision import Effect
from app.runs.agents import AgentSpec
from app.tools.spec import ToolContext, tool
from gates.rig.probe import Done, ProbeAnswer, Query, Text, probe_delete, probe_lookup, probe_write, tell

STATUS = "RIG_STATUS_ORIGIN"  # where hazard_status looks, and nowhere else
SERVERS = "RIG_SERVERS"  # names of tool servers that the agent may use
SLOW_SECONDS = 8.0
BLOCK_SECONDS = 200.0
PART_SECONDS = "RIG_PART_SECONDS"  # between the two parts of a booking
Address = Annotated[str, StringConstraints(max_length=500)]


class Answered(BaseModel):
    status: int
    body: str


@tool(effect=Effect.EXTERNAL_POST, permission="hazard:run")
async def hazard_send(context: ToolContext, url: Address) -> Answered:
    """Send a word to an address."""
    reply = await context.egress.post_json(
        url, {"word": "hello"}, deadline=timedelta(seconds=3), idempotency_key=context.idempotency_key
    )
    return Answered(status=reply.status, body=reply.body[:200])


@tool(effect=Effect.EXTERNAL_POST, permission="hazard:run")
async def hazard_read(context: ToolContext, url: Address) -> Answered:
    """Read a page at an address."""
    reply = await context.egress.get(url, deadline=timedelta(seconds=3))
    return Answered(status=reply.status, body=reply.body[:200])


@tool(effect=Effect.READ, permission="hazard:run", destinations=(os.environ.get(STATUS, "https://status.rig.test"),))
async def hazard_status(context: ToolContext, page: Address) -> Answered:
    """Look at a page of the one place this tool knows, or, if the page is a whole address, there."""
    place = page if "://" in page else os.environ[STATUS] + page
    reply = await context.egress.get(place, deadline=timedelta(seconds=3))
    return Answered(status=reply.status, body=reply.body[:200])


@tool(effect=Effect.READ, permission="hazard:run", timeout=timedelta(seconds=30))
async def hazard_slow(context: ToolContext, query: Query) -> Done:
    """Look something up, slowly, and say so at the beginning and at the end."""
    await tell(context, "hazard_slow", {"query": query, "at": "start"})
    await anyio.sleep(SLOW_SECONDS)
    return await tell(context, "hazard_slow", {"query": query, "at": "end"})


@tool(effect=Effect.WRITE, permission="hazard:run", timeout=timedelta(seconds=30))
async def hazard_book(context: ToolContext, text: Text) -> Done:
    """Book something in a place that knows no idempotency key; say so at the beginning and at the end."""
    return await _in_two_parts(context, "hazard_book", text)


@tool(effect=Effect.READ, permission="hazard:run", timeout=timedelta(seconds=30))
async def hazard_count(context: ToolContext, text: Text) -> Done:
    """Count something in a place that charges for each look. Says so at the beginning and at the end."""
    return await _in_two_parts(context, "hazard_count", text)


async def _in_two_parts(context: ToolContext, name: str, text: str) -> Done:
    await tell(context, name, {"text": text, "at": "start"})
    await anyio.sleep(float(os.environ.get(PART_SECONDS, "0.3")))
    return await tell(context, name, {"text": text, "at": "end"})


@tool(effect=Effect.READ, permission="hazard:run")
async def hazard_block(context: ToolContext, query: Query) -> Done:
    """Look something up with a library that waits without the event loop, as a bug does."""
    await tell(context, "hazard_block", {"query": query})
    time.sleep(BLOCK_SECONDS)  # noqa: ASYNC251 - that is the fault
    return Done(done=True)


@tool(effect=Effect.READ, permission="hazard:run")
async def hazard_poison(context: ToolContext, query: Query) -> Done:
    """Look something up in a place that takes the whole process down."""
    await tell(context, "hazard_poison", {"query": query})
    os.kill(os.getpid(), signal.SIGKILL)
    return Done(done=True)


@tool(effect=Effect.WRITE, permission="probe:write", idempotent=True)
async def hazard_store(
    context: ToolContext, text: Annotated[str, StringConstraints(min_length=1, max_length=200)]
) -> Done:
    """Write something down in a place that knows the idempotency key."""
    return await tell(context, "hazard_store", {"text": text})


SCOUT = AgentSpec(
    name="scout",
    instructions="You are the scout.",
    output_type=ProbeAnswer,
    tools=(probe_lookup, hazard_status),
    delegates=(
        AgentSpec(name="deep_scout", instructions="You are deep.", output_type=ProbeAnswer, tools=(probe_lookup,)),
    ),
)
FEATURE = Feature(
    name="hazard",
    agent=AgentSpec(
        name="hazard",
        instructions="You are the hazard.",
        output_type=ProbeAnswer,
        tools=(
            probe_lookup, probe_write, probe_delete, hazard_store, hazard_send, hazard_read, hazard_status, hazard_slow,
            hazard_poison, hazard_block, hazard_book, hazard_count,
        ),
        servers=tuple(filter(None, os.environ.get(SERVERS, "").split(","))),
        delegates=(SCOUT,),
    ),
)  # fmt: skip
