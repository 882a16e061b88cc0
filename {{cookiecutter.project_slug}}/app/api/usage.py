"""What was spent, on what, and what is left."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Literal, Self, TypedDict

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.api.guards import require
from app.api.schemas import Reason, Strict, Usd
from app.api.state import RuntimeDep
from app.budgets.caps import Payer
from app.budgets.money import to_micro, usd
from app.db.base import utc_now
from app.identity.layers import Layer
from app.identity.principal import Principal
from app.runs.economics import unit_cost

router = APIRouter(prefix="/v1", tags=["usage"])


Dimension = Literal["day", "member", "feature", "tier", "model", "prompt_version"]


class UsageRow(BaseModel):
    """Of these names, those that were asked for by `by`."""

    day: str | None = Field(None, description="UTC")
    member: str | None = None
    feature: str | None = None
    tier: str | None = None
    model: str | None = None
    prompt_version: str | None = None
    model_calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: str


class Usage(BaseModel):
    items: list[UsageRow]
    cost_usd: str
    model_calls: int
    runs: int = Field(description="that began in this time")
    runs_succeeded: int
    cost_per_successful_run_usd: str | None = Field(description="the cost of all runs, by those that succeeded")


class Budget(BaseModel):
    scope: str
    period: Literal["day", "month"]
    window: str
    limit_usd: str
    spent_usd: str
    held_usd: str
    left_usd: str
    frozen: bool
    limited_by: Layer = Field(description="whose limit `limit_usd` is: the smaller of both")
    operator_limit_usd: str | None = Field(description="top-ups included; null: none")
    tenant_limit_usd: str | None = Field(description="the tenant's own, top-ups included; null: none")
    frozen_by: list[Layer] = Field(description="who must thaw it before anything is spent again")


class Who(TypedDict):
    """Who changes a limit, and in which layer."""

    actor: str
    layer: Layer


class Budgets(BaseModel):
    items: list[Budget]


CHANGES = {"limit_usd": "string", "add_usd": "string", "frozen": "boolean", "no_limit": "boolean"}


class BudgetUpdate(Strict):
    """One change of the tenant's own limits; the operator's stay as they are, and the stricter of both holds.

    One of: another limit from now on, more for the open window alone, nothing more at all until it is thawed, no limit
    of its own."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {
                    "required": [name],
                    "properties": {
                        name: {"type": kind}, **{other: {"type": "null"} for other in CHANGES if other != name}
                    },
                }
                for name, kind in CHANGES.items()
            ]
        }
    )  # fmt: skip
    scope: Literal["tenant"]
    period: Literal["day", "month"] = Field("month", description="which cap's limit; frozen is both")
    limit_usd: Usd | None = None
    add_usd: Usd | None = None
    frozen: bool | None = None
    no_limit: Literal[True] | None = Field(None, description="the operator's limit holds alone")
    reason: Reason | None = None

    @model_validator(mode="after")
    def _one_change(self) -> Self:
        if sum(getattr(self, name) is not None for name in CHANGES) != 1:
            raise ValueError(f"give one of {', '.join(CHANGES)}")
        return self


@router.get("/usage", response_model=Usage, response_model_exclude_unset=True)
async def get_usage(
    runtime: RuntimeDep,
    principal: Annotated[Principal, require("usage:read")],
    by: Annotated[
        list[Dimension] | None, Query(max_length=6, description="what the items are sums for: model and feature")
    ] = None,
    days: Annotated[int, Query(ge=1, le=366, description="how far back")] = 31,
) -> Usage:
    """The tenant's model calls of the last days, summed up."""
    until = utc_now()
    since = until - timedelta(days=days)
    rows = await runtime.spend.by(principal, list(dict.fromkeys(by or ["model", "feature"])), since, until)
    items = [
        UsageRow.model_validate(
            {
                **row.of, "model_calls": row.calls, "input_tokens": row.input_tokens,
                "output_tokens": row.output_tokens, "cost_usd": usd(row.cost_micro),
            }
        )
        for row in rows
    ]  # fmt: skip
    unit = await unit_cost(runtime.db, principal, since, until)
    each = unit.per_success_micro
    return Usage(
        items=items, cost_usd=usd(sum(row.cost_micro for row in rows)), model_calls=sum(row.calls for row in rows),
        runs=unit.runs, runs_succeeded=unit.succeeded, cost_per_successful_run_usd=None if each is None else usd(each),
    )  # fmt: skip


@router.get("/budgets", response_model=Budgets)
async def get_budgets(runtime: RuntimeDep, principal: Annotated[Principal, require("usage:read")]) -> Budgets:
    """The tenant's and the caller's caps as they stand now, and whose limit or freeze it is."""
    windows = await runtime.ledger.windows(Payer(principal.tenant_id, principal.member_id))
    return Budgets(
        items=[
            Budget(
                scope=w.scope, period=w.period, window=w.window, limit_usd=usd(w.limit_micro),
                spent_usd=usd(w.spent_micro), held_usd=usd(w.held_micro), left_usd=usd(w.left_micro), frozen=w.frozen,
                limited_by=w.limit.limited_by, operator_limit_usd=_usd(w.limit.operator_micro),
                tenant_limit_usd=_usd(w.limit.tenant_micro), frozen_by=list(w.limit.frozen_by),
            )
            for w in windows
            if w.scope != "global"
        ]
    )  # fmt: skip


@router.put("/budgets", response_model=Budgets)
async def set_budget(
    body: BudgetUpdate, runtime: RuntimeDep, principal: Annotated[Principal, require("budgets:write")]
) -> Budgets:
    """Set the tenant's own limit, add to it in the open window, freeze all of the tenant's spend, or take that back.

    Effective at once. The operator's limit and freeze stay: 403 for more than the operator allows."""
    payer, reason = Payer(principal.tenant_id, principal.member_id), body.reason or ""
    who: Who = {"actor": principal.member_id, "layer": "tenant"}
    if body.limit_usd is not None or body.no_limit:
        limit = None if body.limit_usd is None else to_micro(Decimal(body.limit_usd))
        await runtime.ledger.set_cap(payer, body.scope, limit, period=body.period, **who)
    elif body.add_usd is not None:
        more = to_micro(Decimal(body.add_usd))
        await runtime.ledger.top_up(payer, body.scope, more, reason=reason, period=body.period, **who)
    else:
        await runtime.ledger.freeze(payer, body.scope, frozen=bool(body.frozen), reason=reason, **who)
    return await get_budgets(runtime, principal)


def _usd(micro: int | None) -> str | None:
    return None if micro is None else usd(micro)
