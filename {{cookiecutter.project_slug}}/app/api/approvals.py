"""Questions waiting for a person, and their answers."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field, StringConstraints

from app.api.guards import require
from app.api.pagination import PAGE_SIZE, Cursor, Limit, Page
from app.api.schemas import Id, Instant, Reason, Strict
from app.api.state import RuntimeDep
from app.content.invisible import escaped, escaped_values
from app.errors import AppError, Conflict
from app.identity.principal import Principal
from app.runs.question_context import UNKNOWN, QuestionContext, contexts
from app.runtime import Runtime
from app.tools.models import Approval

NAMED_BEFORE = "This approval stands in the request before: its first decision counts."
router = APIRouter(prefix="/v1/approvals", tags=["approvals"])
State = Literal["pending", "approved", "denied", "expired", "used", "stale"]


class Change(BaseModel):
    before: dict[str, Any]
    after: dict[str, Any]


class UntrustedSource(BaseModel):
    """A document or a tool's results: text that nobody here vouches for, and that may hold instructions."""

    kind: Literal["document", "tool"]
    name: str
    excerpt: str = Field(description="of its text: around the passage that an argument repeats, else its beginning")
    repeated_in: list[str] = Field(description="JSON pointers of the arguments that repeat words of it")
    has_hidden: bool = Field(description="whether it holds characters that a person does not see")


class ApprovalView(BaseModel):
    """A question to a person. Characters that cannot be seen are spelled out in every text, such as ⟨U+202E⟩."""

    id: str
    run_id: str
    task: str | None = Field(description="of the run; null once retention has deleted its content")
    tainted: bool | None = Field(description="whether the run had read untrusted text before it asked; null as below")
    untrusted: list[UntrustedSource] | None = Field(
        description="what it had read; null once the question is closed or retention has deleted the run's content"
    )
    tool: str
    effect: str
    arguments: dict[str, Any] | None = Field(description="null once retention has deleted the content of the run")
    change: Change | None = Field(description="what would change, where the tool can say so")
    digest: str
    reason: str
    requested_by: str
    requested_by_name: str | None = Field(description="of the member who asked")
    state: str
    decided_by: str | None
    decided_by_name: str | None
    four_eyes_rule: str | None = Field(
        description="that held when it was decided: `distinct possible holders` or `distinct members only`"
    )
    created_at: Instant
    expires_at: Instant

    @classmethod
    def of(cls, approval: Approval, names: Mapping[str, str], context: QuestionContext) -> "ApprovalView":
        facts = {name: getattr(approval, name) for name in cls.model_fields if hasattr(approval, name)}
        facts |= {"arguments": escaped_values(approval.arguments), "change": escaped_values(approval.change)}
        asked_by, decided_by = names.get(approval.requested_by), names.get(approval.decided_by or "")
        return cls(
            **facts | {"reason": escaped(approval.reason)},
            task=context.task,
            tainted=None if context.untrusted is None else bool(context.untrusted),
            untrusted=None if context.untrusted is None else [UntrustedSource(**vars(u)) for u in context.untrusted],
            requested_by_name=escaped_values(asked_by),
            decided_by_name=escaped_values(decided_by),
        )


class ApprovalDecision(Strict):  # a `Decision` with a `decision` would not be typed in a generated client
    decision: Literal["approve", "deny"]
    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    reason: Reason


class ItemDecision(ApprovalDecision):
    id: Id


class Decisions(Strict):
    items: list[ItemDecision] = Field(min_length=1, max_length=50)


class Decided(BaseModel):
    id: str
    state: str | None = Field(description="of the approval now, where the decision was taken")
    error: str | None = Field(description="the code of the error, where it was not")
    detail: str | None


class AllDecided(BaseModel):
    items: list[Decided]


async def _views(runtime: Runtime, caller: Principal, approvals: Sequence[Approval]) -> list[ApprovalView]:
    people = [member for approval in approvals for member in (approval.requested_by, approval.decided_by)]
    names = await runtime.directory.names(caller, people)
    known = await contexts(runtime.db, caller, approvals)
    return [ApprovalView.of(approval, names, known.get(approval.id, UNKNOWN)) for approval in approvals]


@router.get("", response_model=Page[ApprovalView])
async def list_approvals(
    runtime: RuntimeDep,
    principal: Annotated[Principal, require("approvals:read")],
    state: Annotated[State | None, Query()] = None,
    run_id: Annotated[Id | None, Query(description="only the questions of this run")] = None,
    cursor: Cursor = None,
    limit: Limit = PAGE_SIZE,
) -> Page[ApprovalView]:
    found = await runtime.approvals.page(principal, state=state, run_id=run_id, before=cursor, limit=limit)
    following = found[-1].id if len(found) == limit else None
    return Page(items=await _views(runtime, principal, found), next=following)


@router.post("/{approval_id}/decision", response_model=ApprovalView)
async def decide(
    approval_id: str,
    body: ApprovalDecision,
    runtime: RuntimeDep,
    principal: Annotated[Principal, require("approvals:decide")],
) -> ApprovalView:
    """Approve or deny exactly the action whose digest is given. Once, and not one's own.

    Refused as well where one person may hold the credentials of both who asked and who decides (four-eyes rule)."""
    approve = body.decision == "approve"
    approval = await runtime.approvals.decide(
        principal, approval_id, approve=approve, digest=body.digest, reason=body.reason
    )
    [view] = await _views(runtime, principal, [approval])
    return view


@router.post("/decisions", response_model=AllDecided)
async def decide_each(
    body: Decisions, runtime: RuntimeDep, principal: Annotated[Principal, require("approvals:decide")]
) -> AllDecided:
    """Decide several questions in one request: each on its own, with its own digest and reason.

    One that cannot be decided says why and leaves the others alone. Of one that is named twice the first counts."""
    decided: list[Decided] = []
    for item in body.items:
        if item.id in {each.id for each in decided}:
            decided.append(Decided(id=item.id, state=None, error=Conflict.row.code, detail=NAMED_BEFORE))
            continue
        try:
            approval = await runtime.approvals.decide(
                principal, item.id, approve=item.decision == "approve", digest=item.digest, reason=item.reason
            )
            decided.append(Decided(id=item.id, state=approval.state, error=None, detail=None))
        except AppError as error:
            decided.append(Decided(id=item.id, state=None, error=error.row.code, detail=error.detail))
    return AllDecided(items=decided)
