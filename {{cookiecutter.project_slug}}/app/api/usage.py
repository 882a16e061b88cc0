"""What was spent and what is left."""

from decimal import Decimal
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel

from app.api.guards import require
from app.api.schemas import Strict, Usd
from app.api.state import RuntimeDep
from app.budgets.caps import Payer
from app.budgets.money import to_micro, usd
from app.identity.principal import Principal

router = APIRouter(prefix="/v1", tags=["usage"])


class UsageRow(BaseModel):
    model: str
    feature: str
    model_calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: str


class Usage(BaseModel):
    items: list[UsageRow]
    cost_usd: str
    model_calls: int


class Budget(BaseModel):
    scope: str
    window: str
    limit_usd: str
    spent_usd: str
    held_usd: str
    left_usd: str


class Budgets(BaseModel):
    items: list[Budget]


class BudgetUpdate(Strict):
    scope: Literal["tenant"]
    limit_usd: Usd


@router.get("/usage", response_model=Usage)
async def get_usage(runtime: RuntimeDep, principal: Annotated[Principal, require("usage:read")]) -> Usage:
    """The tenant's model calls of the last 31 days."""
    rows = await runtime.spend.by_model(principal)
    items = [
        UsageRow(
            model=row.model, feature=row.feature, model_calls=row.calls, input_tokens=row.input_tokens,
            output_tokens=row.output_tokens, cost_usd=usd(row.cost_micro),
        )
        for row in rows
    ]  # fmt: skip
    return Usage(
        items=items, cost_usd=usd(sum(row.cost_micro for row in rows)), model_calls=sum(row.calls for row in rows)
    )


@router.get("/budgets", response_model=Budgets)
async def get_budgets(runtime: RuntimeDep, principal: Annotated[Principal, require("usage:read")]) -> Budgets:
    """The tenant's and the caller's caps as they stand now."""
    windows = await runtime.ledger.windows(Payer(principal.tenant_id, principal.member_id))
    return Budgets(
        items=[
            Budget(
                scope=w.scope, window=w.window, limit_usd=usd(w.limit_micro), spent_usd=usd(w.spent_micro),
                held_usd=usd(w.held_micro), left_usd=usd(max(0, w.limit_micro - w.spent_micro - w.held_micro)),
            )
            for w in windows
            if w.scope != "global"
        ]
    )  # fmt: skip


@router.put("/budgets", response_model=Budgets)
async def set_budget(
    body: BudgetUpdate, runtime: RuntimeDep, principal: Annotated[Principal, require("budgets:write")]
) -> Budgets:
    """Set the tenant's monthly cap; effective at once."""
    await runtime.ledger.set_cap(
        body.scope,
        principal.tenant_id,
        to_micro(Decimal(body.limit_usd)),
        tenant_id=principal.tenant_id,
        actor=principal.member_id,
    )
    return await get_budgets(runtime, principal)
