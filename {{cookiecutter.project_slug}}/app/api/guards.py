"""Who may call what. A route names its permission here or stands in PUBLIC; the tests walk the router.

Denials are audited with their reason and without any part of the credential. Gate: access.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.api.state import RuntimeDep
from app.audit import trail
from app.errors import Forbidden, Unauthenticated
from app.identity.principal import Principal

PUBLIC = frozenset(
    {"/livez", "/readyz", "/openapi.json", "/console/sign-in", "/console/style.css", "/console/icon.svg"}
)

_bearer = HTTPBearer(auto_error=False, description="An API key: svc_<environment>_<id>_<secret>")


async def caller(
    runtime: RuntimeDep, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    """The authenticated caller. Raises Unauthenticated or CredentialExpired."""
    if credentials is None:
        raise Unauthenticated
    return await runtime.directory.authenticate(credentials.credentials)


def require(permission: str) -> Any:
    """A dependency that yields the caller when they hold the permission and raises Forbidden otherwise."""

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
            raise
        return principal

    guard: Callable[..., Awaitable[Principal]] = check
    guard.permission = permission  # type: ignore[attr-defined]  # read by the route matrix test
    return Depends(guard)
