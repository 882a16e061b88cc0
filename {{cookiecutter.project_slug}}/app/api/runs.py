"""Starting a run of a feature's agent and reading it back. Gate: access, validation."""

import re
from decimal import Decimal
from functools import partial
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Header, Response
from pydantic import BaseModel, Field, StringConstraints

from app.api.documents import Document, as_sent, texts
from app.api.guards import require
from app.api.idempotency import IdempotencyKey
from app.api.pagination import PAGE_SIZE, Cursor, Limit, Page
from app.api.schemas import NOT_BLANK, Instant, Integral, Reason, Strict, Usd, bounded
from app.api.state import RuntimeDep
from app.budgets.money import to_micro, usd
from app.budgets.spend import RunCost
from app.identity.principal import Principal
from app.runs.intake import RunRequest
from app.runs.models import Run
from app.runs.outcome import Outcome, outcome
from app.runs.progress import progress, watching
from app.runs.state import ENDED
from app.runtime import Runtime

router = APIRouter(prefix="/v1/runs", tags=["runs"])
MAX_WAIT_S = 30
_WAIT = re.compile(r"\bwait=(\d{1,4})\b", re.ASCII)  # RFC 7240; other preferences are ignored, as it says


class Limits(Strict):
    """Limits of this run alone; each may only be lower than the service's own."""

    model_calls: Annotated[int, Field(ge=1, le=1_000), Integral] | None = None
    tool_calls: Annotated[int, Field(ge=1, le=1_000), Integral] | None = None
    duration_s: Annotated[int, Field(ge=1, le=86_400), Integral] | None = Field(
        None, description="at work; waiting for a person does not count"
    )
    cost_usd: Usd | None = None

    def plain(self) -> dict[str, int] | None:
        asked = self.model_dump(exclude_none=True)
        if "cost_usd" in asked:
            asked["cost_micro"] = to_micro(Decimal(asked.pop("cost_usd")))
        return asked or None


class RunCreate(Strict):
    feature: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,59}$")]
    task: Annotated[
        str,
        StringConstraints(strip_whitespace=True, min_length=1, max_length=8_000, pattern=NOT_BLANK),
        bounded(8_000),
    ]
    documents: list[Document] = Field(default_factory=list, max_length=5)
    limits: Limits | None = None


class RouteView(BaseModel):
    """Which tier of models the last call was given, and by what."""

    tier: str
    asked: str
    most: str = Field(description="the strongest that the tenant may use")
    complexity: int = Field(description="how hard the task looks, 0 to 100")
    reason: str = Field(description="asked, complexity, tenant, budget or repair")


class RunUsage(BaseModel):
    model_calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: str


class RunView(BaseModel):
    id: str
    feature: str
    state: str
    outcome: Outcome | None = Field(description="how it ended, once it has; a refusal or a limit is no fault")
    output: Any | None = Field(description="null as well once `content_deleted_at` is set")
    error: dict[str, str] | None
    model: str
    route: RouteView | None = Field(description="null where the agent's own tier answered")
    degraded: bool = Field(description="whether another model stood in for `model`")
    prompt_version: str
    usage: RunUsage
    created_at: Instant
    ended_at: Instant | None
    content_deleted_at: Instant | None = Field(
        description="when retention deleted its task, documents and output; state, outcome and cost stay"
    )

    @classmethod
    def of(cls, run: Run, cost: RunCost) -> "RunView":
        error = {"code": run.error_code, "detail": run.error_detail or ""} if run.error_code else None
        usage = RunUsage(
            model_calls=cost.calls,
            input_tokens=cost.input_tokens,
            output_tokens=cost.output_tokens,
            cost_usd=usd(cost.cost_micro),
        )
        return cls(
            id=run.id, feature=run.feature, state=run.state, outcome=outcome(run), output=run.output, error=error,
            model=run.model, route=RouteView(**run.route) if run.route else None, degraded=run.degraded,
            prompt_version=run.prompt_version, usage=usage,
            created_at=run.created_at, ended_at=run.ended_at, content_deleted_at=run.content_deleted_at,
        )  # fmt: skip


@router.post("", status_code=202, response_model=RunView, responses={200: {"model": RunView}})
async def start_run(
    # First: who may not start runs learns nothing more.
    principal: Annotated[Principal, require("runs:write", costly=True)],
    body: RunCreate,
    key: IdempotencyKey,
    runtime: RuntimeDep,
    response: Response,
    prefer: Annotated[str | None, Header(description="`wait=N` seconds for the end")] = None,
) -> RunView:
    """Accept a run. Poll its Location, or send `Prefer: wait=N` to get a finished one with 200."""
    limits = body.limits.plain() if body.limits else None
    read = partial(texts, body.documents, principal.tenant_id)
    request = RunRequest(body.feature, body.task, as_sent(body.documents), limits, read)
    run, replayed = await runtime.intake.start(principal, request, key)
    if wait := _WAIT.search(prefer or ""):
        run = await _settled(runtime, principal, run, min(int(wait[1]), MAX_WAIT_S))
    response.status_code = 200 if run.state in ENDED else 202
    response.headers["Location"] = f"/v1/runs/{run.id}"
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return RunView.of(run, await runtime.spend.of_run(principal, run.id))


@router.get("", response_model=Page[RunView])
async def list_runs(
    runtime: RuntimeDep,
    principal: Annotated[Principal, require("runs:read")],
    cursor: Cursor = None,
    limit: Limit = PAGE_SIZE,
) -> Page[RunView]:
    runs = await runtime.intake.page(principal, before=cursor, limit=limit)
    costs = await runtime.spend.of_runs(principal, [run.id for run in runs])
    items = [RunView.of(run, costs[run.id]) for run in runs]
    return Page(items=items, next=runs[-1].id if len(runs) == limit else None)


@router.get("/{run_id}", response_model=RunView)
async def get_run(run_id: str, runtime: RuntimeDep, principal: Annotated[Principal, require("runs:read")]) -> RunView:
    run = await runtime.intake.get(principal, run_id)
    return RunView.of(run, await runtime.spend.of_run(principal, run.id))


class Cancellation(Strict):
    reason: Reason = "cancelled by its caller"


@router.post("/{run_id}/cancel", response_model=RunView)
async def cancel_run(
    run_id: str,
    runtime: RuntimeDep,
    principal: Annotated[Principal, require("runs:write")],
    body: Cancellation | None = None,
) -> RunView:
    """Stop a run: no tool starts any more, and the model and tools at work are stopped within two seconds."""
    await runtime.store.cancel(principal, run_id, (body or Cancellation()).reason)
    return await get_run(run_id, runtime, principal)


async def _settled(runtime: Runtime, principal: Principal, run: Run, seconds: int) -> Run:
    """The run once it has ended or waits for a person, for whom one may wait for hours; or as it is after `seconds`."""
    final = {*ENDED, "waiting"}
    with anyio.move_on_after(seconds), watching(runtime.db, run.id) as watch:
        while (await progress(runtime.db, principal, run.id)).state not in final:
            while not await watch.wait():
                pass
    return await runtime.intake.get(principal, run.id)
