"""Operator pages: what waits for a decision, what ran, what it cost, what nobody knows. Gate: validation."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Form, Query, Request, Response
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.templating import Jinja2Templates

from app.api.guards import refused
from app.api.limits import RateLimits, address_of
from app.api.problems import problem
from app.api.schemas import MAX_REASON, MIN_REASON
from app.api.state import RuntimeDep
from app.budgets.caps import Payer
from app.budgets.money import shown
from app.console import session
from app.console.session import SessionDep, SignedOut
from app.content.invisible import escaped_values
from app.errors import AuthUnavailable, CredentialExpired, NotFound, RateLimited, RequestInvalid, Unauthenticated
from app.identity import tokens
from app.identity.principal import Principal
from app.identity.sign_in import Attempt
from app.runs.question_context import contexts
from app.runtime import Runtime

HERE = Path(__file__).parent
SHOWN = ("approvals:read", "approvals:decide", "runs:read", "usage:read", "keys:self", "keys:redeem")
router = APIRouter(prefix="/console", include_in_schema=False)
templates = Jinja2Templates(HERE / "templates")
templates.env.filters["money"] = shown
# Every value of every page: nobody has to remember it for the next one.
templates.env.finalize = escaped_values
Answer = Annotated[str, Query(max_length=2_000)]
Field = Annotated[str, Form(max_length=300, pattern=r"^[^\x00]*$")]


@router.head("/style.css")
@router.get("/style.css")
async def style() -> FileResponse:
    return FileResponse(HERE / "static" / "style.css", media_type="text/css")


@router.head("/icon.svg")
@router.get("/icon.svg")
async def icon() -> FileResponse:
    return FileResponse(HERE / "static" / "icon.svg", media_type="image/svg+xml")


@router.head("/sign-in")
@router.get("/sign-in")
async def sign_in_page(request: Request, runtime: RuntimeDep) -> Response:
    return _sign_in_form(request, runtime)


@router.post("/sign-in")
async def sign_in(request: Request, runtime: RuntimeDep, key: Field = "") -> Response:
    session.require_same_site(request)
    try:
        if tokens.parse(key.strip()) is None:  # a program's access token is no way to sign a person in
            raise Unauthenticated("malformed")  # noqa: TRY301 - answered like any other key
        principal = await runtime.directory.authenticate(key.strip())
    except (Unauthenticated, CredentialExpired) as error:
        return await _not_signed_in(request, runtime, error, "That key is not valid.")
    await runtime.directory.began_session(principal, "key")
    response = RedirectResponse("/console", 303)
    session.start(response, runtime.settings, principal)
    return response


@router.get("/sign-in/provider")
async def sign_in_at_provider(runtime: RuntimeDep) -> Response:
    """Send the browser to the identity provider, to come back to the page below."""
    if runtime.sign_in is None:
        raise NotFound
    attempt = Attempt.new()
    response = RedirectResponse(runtime.sign_in.address(attempt), 303)
    session.remember(response, runtime.settings, attempt)
    return response


@router.get("/signed-in")
async def signed_in(
    request: Request,
    runtime: RuntimeDep,
    state: Answer = "",
    code: Answer = "",
    iss: Annotated[str | None, Query(max_length=300)] = None,
) -> Response:
    """Back from the provider. A page and no redirect: the cookie set here is not sent along one from another site."""
    if runtime.sign_in is None:
        raise NotFound
    limits: RateLimits = request.app.state.limits
    try:
        await limits.count("sign_in", address_of(request))  # before the provider is asked about it
        attempt = session.remembered(request, runtime.settings)
        subject = await runtime.sign_in.finish(attempt, state=state, code=code, issuer=iss)
        principal = await runtime.directory.principal_of_subject(subject.issuer, subject.subject, subject.expires_at)
    except (Unauthenticated, CredentialExpired) as error:
        return await _not_signed_in(request, runtime, error, "You could not be signed in.")
    except (AuthUnavailable, RateLimited) as error:
        return _sign_in_form(request, runtime, error.detail, problem(error))
    await runtime.directory.began_session(principal, "provider")
    response = templates.TemplateResponse(request, "signed_in.html", {"service": runtime.settings.service})
    session.start(response, runtime.settings, principal)
    session.forget_attempt(response)
    return response


async def _not_signed_in(
    request: Request, runtime: Runtime, error: Unauthenticated | CredentialExpired, told: str
) -> Response:
    try:
        await refused(request, error)
    except RateLimited as limited:
        return _sign_in_form(request, runtime, limited.detail, problem(limited))
    return _sign_in_form(request, runtime, told, problem(error))


@router.post("/sign-out")
async def sign_out(runtime: RuntimeDep, current: SessionDep, csrf: Field = "") -> Response:
    current.require_token(csrf)
    await runtime.directory.end_sessions(current.principal)
    response = RedirectResponse("/console/sign-in", 303)
    session.end(response)
    return response


@dataclass(frozen=True)
class RefusedForm:
    """A form that was not accepted: what was typed in it and what is wrong, by the name of each field."""

    typed: Mapping[str, str]
    errors: Mapping[str, str]
    status: int = RequestInvalid.row.status
    notice: str = ""


@router.get("")
async def overview(request: Request, runtime: RuntimeDep, current: SessionDep) -> Response:
    return await overview_page(request, runtime, current)


async def overview_page(
    request: Request, runtime: Runtime, current: session.Session, form: RefusedForm | None = None
) -> Response:
    """The console's first page; with `form`, everything that was typed into a refused one stands there again."""
    who: Principal = current.principal
    page: dict[str, Any] = {
        "service": runtime.settings.service,
        "who": who,
        "csrf": current.csrf,
        "notice": form.notice if form else session.read_notice(request, runtime.settings),
        "form": form or RefusedForm({}, {}),
        "shortest": MIN_REASON,
        "longest": MAX_REASON,
        "allowed": {name: who.can(name) for name in SHOWN},
        "tasks": {},
    }
    if who.can("approvals:read"):
        page["approvals"] = pending = await runtime.approvals.page(who, state="pending", before=None, limit=50)
        page["decided"] = await runtime.approvals.decided(who, limit=10)
        people = [member for one in (*pending, *page["decided"]) for member in (one.requested_by, one.decided_by)]
        page["names"] = await runtime.directory.names(who, people)
        page["refusals"] = {one.id: runtime.approvals.refusal(who, one) for one in pending}
        page["contexts"] = await contexts(runtime.db, who, pending)
        page["unknown"] = await runtime.unknown.open(who)
        page["asked"] = await runtime.unknown.arguments(who, page["unknown"])
    if who.can("runs:read"):
        runs = await runtime.intake.page(who, before=None, limit=20)
        page |= {"runs": runs, "costs": await runtime.spend.of_runs(who, [run.id for run in runs])}
        named = {run.id for run in runs} | {approval.run_id for approval in page.get("approvals", ())}
        page["tasks"] = await runtime.intake.tasks(who, named)
    if who.can("usage:read"):
        windows = await runtime.ledger.windows(Payer(who.tenant_id, who.member_id))
        page["budgets"] = [window for window in windows if window.scope != "global"]
        page["calls"] = calls = await runtime.spend.without_run(who, limit=20)
        page["callers"] = await runtime.directory.names(who, [call.member_id for call in calls])
    response = templates.TemplateResponse(request, "overview.html", page, form.status if form else 200)
    session.forget_notice(response)
    return response


def back(runtime: Runtime, notice: str) -> Response:
    """To the console's first page, which says this once."""
    response = RedirectResponse("/console", 303)
    session.leave_notice(response, runtime.settings, notice[:1000])
    return response


def _fields(change: dict[str, Any]) -> list[dict[str, Any]]:
    """A change as rows for people: each field before and after, what differs marked."""
    before, after = change["before"], change["after"]
    return [
        {"name": n, "before": before.get(n), "after": after.get(n), "changed": before.get(n) != after.get(n)}
        for n in dict.fromkeys([*before, *after])
    ]


def _sign_in_form(request: Request, runtime: Runtime, error: str = "", answer: Response | None = None) -> Response:
    page = {"service": runtime.settings.service, "error": error, "provider": runtime.sign_in is not None}
    if answer is None:
        return templates.TemplateResponse(request, "sign_in.html", page)
    headers = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
    return templates.TemplateResponse(request, "sign_in.html", page, answer.status_code, headers)


templates.env.filters["fields"] = _fields


def install(app: FastAPI) -> None:
    app.include_router(router)

    async def to_sign_in(_request: Request, _error: Exception) -> Response:
        return RedirectResponse("/console/sign-in", 303)

    app.add_exception_handler(SignedOut, to_sign_in)
