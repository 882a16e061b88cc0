"""Who may call what. A route names its permission here or stands in PUBLIC; the tests walk the router.

A permission that is missing is in the audit trail; a credential that is refused is logged and counted. No part of it is
in either. Gate: access, security.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import structlog
from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.api.limits import RateLimits, address_of
from app.api.query import require_known_query
from app.api.state import RuntimeDep
from app.audit import trail
from app.errors import CredentialExpired, Forbidden, Unauthenticated
from app.identity.principal import Principal
from app.runtime import Runtime
from app.telemetry.metrics import AUTH_DENIED, AUTH_REFUSED

log = structlog.get_logger(__name__)
PUBLIC = frozenset(
    {
        "/", "/livez", "/readyz", "/openapi.json", "/console/style.css", "/console/icon.svg",
        "/console/sign-in", "/console/sign-in/provider", "/console/signed-in",
    }
)  # fmt: skip

EARLY = "app.early_principal"  # in a request's scope: who it is, and since when that is known
STAYS_TRUE_S = 1.0

_bearer = HTTPBearer(auto_error=False, description="An API key, or an access token of the identity provider")


async def caller(
    request: Request, runtime: RuntimeDep, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    """The authenticated caller. Raises Unauthenticated, CredentialExpired or RateLimited."""
    early: tuple[Principal, float] | None = request.scope.get(EARLY)
    if early is not None and time.monotonic() - early[1] < STAYS_TRUE_S:
        principal = early[0]
    else:
        principal = await _authenticated(request, runtime, credentials)
    limits: RateLimits = request.app.state.limits
    await limits.count("member", principal.member_id)
    return principal


async def authenticate_early(request: Request) -> Principal:
    """The caller of a request whose body is not received yet. Raises Unauthenticated, CredentialExpired, RateLimited.

    Kept for `caller`, who asks again where the body was long in coming: a key may have been revoked meanwhile."""
    principal = await _authenticated(request, request.app.state.runtime, await _bearer(request))
    request.scope[EARLY] = principal, time.monotonic()
    return principal


async def _authenticated(
    request: Request, runtime: Runtime, credentials: HTTPAuthorizationCredentials | None
) -> Principal:
    if credentials is None:
        raise Unauthenticated
    try:
        return await runtime.directory.authenticate(credentials.credentials)
    except (Unauthenticated, CredentialExpired) as error:
        await refused(request, error)
        raise


async def require_known_query_where_public(request: Request) -> None:
    """For every route; elsewhere who may call is asked first, and a stranger is told nothing of the parameters."""
    if request.scope["route"].path in PUBLIC:
        require_known_query(request)


async def refused(request: Request, error: Unauthenticated | CredentialExpired) -> None:
    """A credential was refused: put on record why, and after too many of them answer that. Raises RateLimited."""
    address = address_of(request)
    AUTH_REFUSED.labels(error.reason).inc()
    log.warning("auth.refused", reason=error.reason, address=address)
    limits: RateLimits = request.app.state.limits
    await limits.count("refused", address)


def require(permission: str, *, costly: bool = False) -> Any:
    """A dependency that yields the caller when they hold the permission and raises Forbidden otherwise.

    Then it raises RequestInvalid for a query parameter that the route does not know. `costly` routes count against a
    limit of their own."""

    async def check(
        request: Request, runtime: RuntimeDep, principal: Annotated[Principal, Depends(caller)]
    ) -> Principal:
        try:
            principal.require(permission)
        except Forbidden:
            async with runtime.db.transaction(principal) as session:
                subject = f"route:{request.method} {request.scope['route'].path}"
                await trail.append(
                    session, principal.tenant_id, principal.member_id, "access.denied", subject, needs=permission
                )
            AUTH_DENIED.inc()
            log.warning("auth.denied", needs=permission, member=principal.member_id)
            raise
        require_known_query(request)
        if costly:
            limits: RateLimits = request.app.state.limits
            await limits.count("costly", principal.member_id)
        return principal

    guard: Callable[..., Awaitable[Principal]] = check
    guard.permission = permission  # type: ignore[attr-defined]  # read by the route matrix test
    guard.costly = costly  # type: ignore[attr-defined]  # read by the tests of routes that call a model
    return Security(guard, scopes=[permission])  # so that the contract names it
