"""Operator pages: what waits for a decision, what ran, what it cost."""

from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Form, Request, Response
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.templating import Jinja2Templates

from app.api.state import RuntimeDep
from app.budgets.caps import Payer
from app.budgets.money import shown
from app.console import session
from app.console.session import SessionDep, SignedOut
from app.errors import AppError
from app.identity.principal import Principal
from app.runtime import Runtime

HERE = Path(__file__).parent
SHOWN = ("approvals:read", "approvals:decide", "runs:read", "usage:read")
router = APIRouter(prefix="/console", include_in_schema=False)
templates = Jinja2Templates(HERE / "templates")
templates.env.filters["money"] = shown
Field = Annotated[str, Form(max_length=300, pattern=r"^[^\x00]*$")]


@router.get("/style.css")
async def style() -> FileResponse:
    return FileResponse(HERE / "static" / "style.css", media_type="text/css")


@router.get("/icon.svg")
async def icon() -> FileResponse:
    return FileResponse(HERE / "static" / "icon.svg", media_type="image/svg+xml")


@router.get("/sign-in")
async def sign_in_page(request: Request, runtime: RuntimeDep) -> Response:
    return _sign_in_form(request, runtime, "")


@router.post("/sign-in")
async def sign_in(request: Request, runtime: RuntimeDep, key: Field = "") -> Response:
    session.require_same_site(request)
    try:
        principal = await runtime.directory.authenticate(key.strip())
    except AppError:
        return _sign_in_form(request, runtime, "That key is not valid.")
    response = RedirectResponse("/console", 303)
    session.start(response, runtime.settings, principal)
    return response


@router.post("/sign-out")
async def sign_out(runtime: RuntimeDep, current: SessionDep, csrf: Field = "") -> Response:
    current.require_token(csrf)
    await runtime.directory.end_sessions(current.principal)
    response = RedirectResponse("/console/sign-in", 303)
    session.end(response)
    return response


@router.get("")
async def overview(request: Request, runtime: RuntimeDep, current: SessionDep) -> Response:
    who: Principal = current.principal
    page: dict[str, Any] = {
        "service": runtime.settings.service,
        "who": who,
        "csrf": current.csrf,
        "notice": session.read_notice(request, runtime.settings),
        "names": await runtime.directory.names(who),
        "allowed": {name: who.can(name) for name in SHOWN},
    }
    if who.can("approvals:read"):
        page["approvals"] = await runtime.approvals.page(who, state="pending", before=None, limit=50)
    if who.can("runs:read"):
        runs = await runtime.intake.page(who, before=None, limit=20)
        page |= {"runs": runs, "costs": await runtime.spend.of_runs(who, [run.id for run in runs])}
    if who.can("usage:read"):
        windows = await runtime.ledger.windows(Payer(who.tenant_id, who.member_id, ""))
        page["budgets"] = [window for window in windows if window.scope != "global"]
    response = templates.TemplateResponse(request, "overview.html", page)
    session.forget_notice(response)
    return response


@router.post("/approvals/{approval_id}")
async def decide(
    runtime: RuntimeDep,
    current: SessionDep,
    approval_id: str,
    decision: Annotated[Literal["approve", "deny"], Form()],
    digest: Field,
    csrf: Field,
    reason: Field = "",
) -> Response:
    """The same decision as through the API; what came of it is shown on the page that follows."""
    current.require_token(csrf)
    current.principal.require("approvals:decide")
    try:
        decided = await runtime.approvals.decide(
            current.principal,
            approval_id,
            approve=decision == "approve",
            digest=digest,
            reason=reason.strip() or "decided in the console",
        )
        notice = f"{decided.tool}: {decided.state}. The run goes on; load this page again to see it end."
    except AppError as error:
        notice = error.detail
    response = RedirectResponse("/console", 303)
    session.leave_notice(response, runtime.settings, notice)
    return response


def _sign_in_form(request: Request, runtime: Runtime, error: str) -> Response:
    page = {"service": runtime.settings.service, "error": error}
    return templates.TemplateResponse(request, "sign_in.html", page, status_code=401 if error else 200)


def install(app: FastAPI) -> None:
    app.include_router(router)

    async def to_sign_in(_request: Request, _error: Exception) -> Response:
        return RedirectResponse("/console/sign-in", 303)

    app.add_exception_handler(SignedOut, to_sign_in)
