"""Kill switches, for platform operators."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel

from app.api.guards import require
from app.api.schemas import Instant, Reason, Strict
from app.api.state import RuntimeDep
from app.identity.principal import Principal
from app.switches.board import NAME

router = APIRouter(prefix="/v1/switches", tags=["switches"])


class SwitchView(BaseModel):
    name: str
    reason: str
    thrown_by: str
    thrown_at: Instant


class Switches(BaseModel):
    items: list[SwitchView]


class SwitchUpdate(Strict):
    state: Literal["on", "off"]
    reason: Reason


@router.get("", response_model=Switches)
async def list_switches(runtime: RuntimeDep, _: Annotated[Principal, require("switches:read")]) -> Switches:
    """The switches that are on."""
    thrown = await runtime.board.thrown()
    return Switches(items=[SwitchView.model_validate(switch, from_attributes=True) for switch in thrown])


@router.put("/{name:path}", response_model=Switches)
async def set_switch(
    name: Annotated[str, Path(pattern=f"^({NAME.pattern})$")],
    body: SwitchUpdate,
    runtime: RuntimeDep,
    principal: Annotated[Principal, require("switches:write")],
) -> Switches:
    """Throw or release a switch; every process obeys before its next model or tool call."""
    act = runtime.board.throw if body.state == "on" else runtime.board.release
    await act(name, body.reason, principal.member_id)
    return await list_switches(runtime, principal)
