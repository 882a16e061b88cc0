"""Deciding in the console: questions of runs, and calls whose outcome is unknown. Gate: validation.

What a person typed is theirs: a form that is refused comes back with all of it, and says at the field what is wrong.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Request, Response

from app.api.schemas import MAX_REASON, MIN_REASON
from app.api.state import RuntimeDep
from app.console.pages import Field, RefusedForm, back, overview_page
from app.console.session import SessionDep
from app.errors import AppError, Conflict
from app.identity.principal import Principal
from app.runtime import Runtime

router = APIRouter(prefix="/console", include_in_schema=False)
Typed = Annotated[str, Form()]  # judged here and not by the framework, whose answer has no place for what was typed


@router.post("/approvals")
async def decide(
    request: Request, runtime: RuntimeDep, current: SessionDep, csrf: Field, reason: Typed = ""
) -> Response:
    """The same decisions as through the API, each on its own; what came of them is shown on the page that follows."""
    current.require_token(csrf)
    current.principal.require("approvals:decide")
    sent = {name: str(value) for name, value in (await request.form()).items()}
    choices = {name: choice for name, choice in sent.items() if name.startswith("decision:")}
    typed = {**choices, "reason": reason}
    if wrong := _wrong_reason(reason):
        return await overview_page(request, runtime, current, RefusedForm(typed, {"reason": wrong}))
    said, refused = await _decide_each(runtime, current.principal, choices, sent, reason.strip())
    if not said:
        said, refused = ["Nothing was chosen."], True
    if refused:
        form = RefusedForm(typed, {}, status=Conflict.row.status, notice=" ".join(said))
        return await overview_page(request, runtime, current, form)
    return back(runtime, " ".join(said))


async def _decide_each(
    runtime: Runtime, who: Principal, choices: Mapping[str, str], sent: Mapping[str, str], reason: str
) -> tuple[list[str], bool]:
    """What came of each decision, in words, and whether one was refused."""
    said, refused = [], False
    for name, choice in choices.items():
        approval_id = name.removeprefix("decision:")
        if choice not in {"approve", "deny"}:
            continue
        digest = sent.get(f"digest:{approval_id}", "")
        try:
            decided = await runtime.approvals.decide(
                who, approval_id, approve=choice == "approve", digest=digest, reason=reason
            )
        except AppError as error:
            refused = True
            said.append(f"Question {approval_id[-6:]}: {error.detail}")
        else:
            said.append(f"{decided.tool}: {decided.state}; load this page again to see the run go on.")
    return said, refused


@router.post("/unknown/{call_id}")
async def resolve(
    request: Request,
    runtime: RuntimeDep,
    current: SessionDep,
    call_id: str,
    outcome: Annotated[Literal["happened", "did_not_happen"], Form()],
    csrf: Field,
    reason: Typed = "",
) -> Response:
    """Put on record what a person found out about a call whose outcome was unknown."""
    current.require_token(csrf)
    current.principal.require("approvals:decide")
    field = f"found:{call_id}"
    if wrong := _wrong_reason(reason):
        return await overview_page(request, runtime, current, RefusedForm({field: reason}, {field: wrong}))
    try:
        call = await runtime.unknown.resolve(
            current.principal, call_id, happened=outcome == "happened", reason=reason.strip()
        )
    except AppError as error:
        form = RefusedForm({field: reason}, {field: error.detail}, status=error.row.status, notice=error.detail)
        return await overview_page(request, runtime, current, form)
    return back(runtime, f"{call.tool}: on record as {outcome.replace('_', ' ')}.")


def _wrong_reason(text: str) -> str:
    """What is wrong with a reason, for the person who typed it; empty where nothing is."""
    length = len(text.strip())
    if not MIN_REASON <= length <= MAX_REASON:
        return f"Give a reason of {MIN_REASON} to {MAX_REASON} characters: this one has {length}."
    if "\0" in text:
        return "A reason may not contain the character NUL."
    return ""
