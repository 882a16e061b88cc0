"""Taking a key of one's own in the console, for who signed in at the identity provider. Gate: access."""

from fastapi import APIRouter, Request, Response

from app.api.state import RuntimeDep
from app.console.pages import Field, back, templates
from app.console.session import SessionDep
from app.errors import AppError
from app.identity.keys import LIFETIME, IssuedKey
from app.runtime import Runtime

router = APIRouter(prefix="/console", include_in_schema=False)


@router.post("/keys")
async def issue_own_key(request: Request, runtime: RuntimeDep, current: SessionDep, csrf: Field = "") -> Response:
    """A key that nobody else has seen; shown on this page and never again."""
    current.require_token(csrf)
    current.principal.require("keys:self")
    try:
        current.require_just_started()
        issued = await runtime.keys.issue_own(current.principal, scopes=None, lifetime=LIFETIME)
    except AppError as error:
        return back(runtime, error.detail)
    return _key_page(request, runtime, issued)


@router.post("/key-claims")
async def redeem_key_claim(
    request: Request, runtime: RuntimeDep, current: SessionDep, csrf: Field = "", claim: Field = ""
) -> Response:
    """The key of a claim, for the member whom it was created for."""
    current.require_token(csrf)
    current.principal.require("keys:redeem")
    try:
        current.require_just_started()
        issued = await runtime.key_claims.redeem(current.principal, claim.strip())
    except AppError as error:
        return back(runtime, error.detail)
    return _key_page(request, runtime, issued)


def _key_page(request: Request, runtime: Runtime, issued: IssuedKey) -> Response:
    # No redirect: what the next page says travels in a cookie, which is signed and can be read.
    page = {"service": runtime.settings.service, "issued": issued}
    return templates.TemplateResponse(request, "key.html", page, headers={"Cache-Control": "no-store"})
