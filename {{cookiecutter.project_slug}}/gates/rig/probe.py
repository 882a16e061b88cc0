"""The probe: a feature of the rig's own, with a tool of each effect, so that proofs outlive the example feature.

Its tools do one thing: tell the effects recorder, over a socket, what they were called with and on whose authority.
"""

import os
from dataclasses import asdict, replace
from functools import wraps
from typing import Annotated, Any, Literal

import httpx2
import sqlalchemy as sa
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter
from pydantic_ai.messages import (
    ModelRequest,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters  # noqa: TID251 - what a feature's stream will do

from app.api.guards import require
from app.api.state import RuntimeDep
from app.budgets.caps import Payer
from app.db.base import new_id
from app.errors import AppError
from app.gateway.metered import CallContext, charged
from app.identity.principal import Principal
from app.manifest import Feature
from app.policy.decision import Effect
from app.runs.agents import AgentSpec
from app.tools.spec import ToolContext, ToolSpec, tool
from gates.rig.effects import Effect as Happened
from gates.rig.plain_http import PLAIN

EFFECTS_URL = "RIG_EFFECTS_URL"
LEAK = "RIG_LEAK"  # the service's own secrets, which the crashes below carry in their messages
TIER = "RIG_TIER"  # which tier of models the probe asks for
Query = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9 _-]{1,80}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Done(BaseModel):
    done: bool


class ProbeAnswer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    answer: str = Field(min_length=1, max_length=4_000)
    mood: Literal["calm", "busy"]


async def tell(context: ToolContext, name: str, arguments: dict[str, Any]) -> Done:
    """Have it happen: tell the recorder who does what, on whose authority."""
    who = context.principal
    permissions = frozenset(who.permissions)
    key = context.idempotency_key
    effect = Happened(name, arguments, who.tenant_id, who.member_id, permissions, context.run_id, key)
    async with httpx2.AsyncClient(**PLAIN, timeout=100) as client:
        told = asdict(effect) | {"permissions": sorted(permissions)}
        (await client.post(os.environ[EFFECTS_URL], json=told)).raise_for_status()
    return Done(done=True)


@tool(effect=Effect.READ, permission="probe:read")
async def probe_lookup(context: ToolContext, query: Query, limit: Annotated[int, Field(ge=1, le=20)] = 5) -> Done:
    """Look something up."""
    return await tell(context, "probe_lookup", {"query": query, "limit": limit})


@tool(effect=Effect.READ, permission="probe:read")
async def probe_crash(context: ToolContext, query: Query) -> Done:
    """Look something up in a place that is broken."""
    await tell(context, "probe_crash", {"query": query})
    raise RuntimeError(f"connection to {os.environ.get(LEAK, '')} lost")


@tool(effect=Effect.WRITE, permission="probe:write")
async def probe_write(context: ToolContext, text: Text) -> Done:
    """Write something down."""
    return await tell(context, "probe_write", {"text": text})


@tool(effect=Effect.DELETE, permission="probe:delete")
async def probe_delete(context: ToolContext, item: Query) -> Done:
    """Delete something."""
    return await tell(context, "probe_delete", {"item": item})


@tool(effect=Effect.EXTERNAL_POST, permission="probe:post")
async def probe_post(context: ToolContext, text: Text) -> Done:
    """Send something away."""
    return await tell(context, "probe_post", {"text": text})


router = APIRouter(prefix="/v1/probe", tags=["probe"])


@router.get("/crash")
async def crash(_: Annotated[Principal, require("probe:read")]) -> None:
    """A route with a bug, as every product has one some day."""
    raise RuntimeError(f"SELECT secret FROM members -- {os.environ.get(LEAK, '')}")


class Counted(BaseModel):
    pooled: int
    in_transaction: int


@router.get("/forgetful")
async def forgetful(runtime: RuntimeDep, principal: Annotated[Principal, require("probe:read")]) -> Counted:
    """Queries that forget whose rows they are after: on a pooled connection as it comes, and in a transaction."""
    count = sa.text("SELECT count(*) FROM runs")
    async with runtime.db._engine.connect() as connection:  # noqa: SLF001 - what nobody should do, on purpose
        pooled = await connection.scalar(count)
    async with runtime.db.transaction(principal) as session:
        mine = await (await session.connection()).scalar(count)
    return Counted(pooled=int(pooled or 0), in_transaction=int(mine or 0))


class StreamStart(BaseModel):
    task: str = Field(max_length=4_000)


class Streamed(BaseModel):
    text: str
    code: str = Field(description="of the error that ended it")


@router.post("/stream")
async def stream(
    body: StreamStart, runtime: RuntimeDep, principal: Annotated[Principal, require("probe:read")]
) -> Streamed:
    """Ask the probe's model and read its answer as it comes."""
    model: Any = runtime.segments.agents.built["probe"].model
    asked = [ModelRequest(parts=[UserPromptPart(body.task)])]
    text = ""
    payer = Payer(principal.tenant_id, principal.member_id, new_id())
    with charged(CallContext(payer, "probe", "stream")):
        try:
            async with model.request_stream(asked, None, ModelRequestParameters()) as events:
                async for event in events:
                    match event:
                        case PartStartEvent(part=TextPart(content=piece)):
                            text += piece
                        case PartDeltaEvent(delta=TextPartDelta(content_delta=piece)):
                            text += piece
        except AppError as error:
            return Streamed(text=text, code=error.row.code)
    return Streamed(text=text, code="")


TOOLS = (probe_lookup, probe_crash, probe_write, probe_delete, probe_post)
FEATURE = Feature(
    name="probe",
    agent=AgentSpec(
        name="probe",
        instructions="You are the probe.",
        output_type=ProbeAnswer,
        tools=TOOLS,
        tier=os.environ.get(TIER, "standard"),
    ),
    router=router,
)


def recorded(feature: Feature) -> Feature:
    """The feature with tools that only tell the recorder: a proof must see what would happen without its happening."""
    return replace(feature, agent=_recorded_agent(feature.agent))


def _recorded_agent(agent: AgentSpec) -> AgentSpec:
    tools, delegates = tuple(map(_recorded, agent.tools)), tuple(map(_recorded_agent, agent.delegates))
    return replace(agent, tools=tools, delegates=delegates)


def _recorded(spec: ToolSpec) -> ToolSpec:
    @wraps(spec.function)
    async def told(context: ToolContext, **arguments: Any) -> Done:
        return await tell(context, spec.name, TypeAdapter(Any).dump_python(arguments, mode="json"))

    return replace(spec, function=told, result=TypeAdapter(Done))
