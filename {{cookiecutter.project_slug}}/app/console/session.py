"""The console's session: a signed, short-lived cookie that names a key, checked on every request.

HttpOnly and SameSite=Strict keep it from scripts and other sites; every form also carries a token
bound to the session (OWASP CSRF). Revoking the key ends the session at once. Gate: access.
"""

import hmac
import secrets
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from itsdangerous import BadSignature, URLSafeTimedSerializer

from app.api.state import RuntimeDep
from app.errors import Forbidden, Unauthenticated
from app.identity.principal import Principal
from app.settings import Settings

COOKIE = "console_session"
LIFETIME_S = 8 * 3600


@dataclass(frozen=True)
class Session:
    principal: Principal
    csrf: str

    def require_token(self, given: str) -> None:
        """Raise Forbidden unless the form came from this session's own page."""
        if not hmac.compare_digest(self.csrf, given):
            raise Forbidden("This form has expired; load the page again.")


class SignedOut(Exception):
    """No valid session: the console shows its sign-in page."""


def _signer(settings: Settings) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(settings.session_secret.get_secret_value(), salt="console")


def start(response: Response, settings: Settings, principal: Principal) -> None:
    value = _signer(settings).dumps({"key": principal.key_id, "csrf": secrets.token_urlsafe(24)})
    secure = settings.public_url.startswith("https://")
    response.set_cookie(
        COOKIE, value, max_age=LIFETIME_S, path="/console", httponly=True, samesite="strict", secure=secure
    )


def end(response: Response) -> None:
    response.delete_cookie(COOKIE, path="/console")


async def current(request: Request, runtime: RuntimeDep) -> Session:
    """Raises SignedOut when the cookie is missing, forged, too old or names a key that is no longer valid."""
    try:
        data: dict[str, Any] = _signer(runtime.settings).loads(request.cookies.get(COOKIE, ""), max_age=LIFETIME_S)
        principal = await runtime.directory.principal_of_key(data["key"])
    except (BadSignature, Unauthenticated, KeyError):
        raise SignedOut from None
    return Session(principal, data["csrf"])


SessionDep = Annotated[Session, Depends(current)]
