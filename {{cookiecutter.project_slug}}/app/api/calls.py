"""The tool calls of a run, and those whose outcome a person has to find out."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.api.guards import require
from app.api.schemas import Instant, Reason, Strict
from app.api.state import RuntimeDep
from app.identity.principal import Principal
from app.tools.models import ToolCall

router = APIRouter(prefix="/v1", tags=["tool calls"])


class CallView(BaseModel):
    id: str
    run_id: str
    tool: str
    effect: str
    rule: str = Field(description="the rule of the policy that decided")
    effect_key: str = Field(
        validation_alias="idempotency_key", description="what the tool handed on: find the effect by it"
    )
    arguments: dict[str, Any] | None = Field(None, description="of an unknown one that a person was asked about")
    state: str = Field(description="denied, waiting, started, done, failed or unknown")
    resolution: str | None = Field(description="of an unknown one: happened or did_not_happen")
    resolved_by: str | None
    started_at: Instant
    finished_at: Instant | None

    @classmethod
    def of(cls, call: ToolCall) -> "CallView":
        return cls.model_validate(call, from_attributes=True)


class Calls(BaseModel):
    items: list[CallView]


class Resolution(Strict):
    outcome: Literal["happened", "did_not_happen"]
    reason: Reason


@router.get("/runs/{run_id}/tool-calls", response_model=Calls)
async def list_calls_of_run(
    run_id: str, runtime: RuntimeDep, principal: Annotated[Principal, require("runs:read")]
) -> Calls:
    """Every call of the run, in order, delegates' included."""
    await runtime.intake.get(principal, run_id)
    return Calls(items=[CallView.of(call) for call in await runtime.unknown.of_run(principal, run_id)])


@router.get("/tool-calls/unknown", response_model=Calls)
async def list_unknown_calls(runtime: RuntimeDep, principal: Annotated[Principal, require("approvals:read")]) -> Calls:
    """Calls that may or may not have happened: the service stopped, or nothing answered, in the middle of them."""
    calls = await runtime.unknown.open(principal)
    asked = await runtime.unknown.arguments(principal, calls)
    views = [CallView.of(call) for call in calls]
    return Calls(items=[view.model_copy(update={"arguments": asked.get(view.effect_key)}) for view in views])


@router.post("/tool-calls/{call_id}/resolution", response_model=CallView)
async def resolve_call(
    call_id: str,
    body: Resolution,
    runtime: RuntimeDep,
    principal: Annotated[Principal, require("approvals:decide")],
) -> CallView:
    """Put on record what a person found out where the effect would be. Nothing is run again."""
    happened = body.outcome == "happened"
    return CallView.of(await runtime.unknown.resolve(principal, call_id, happened=happened, reason=body.reason))
