"""The console's session: a signed, short-lived cookie that names a member and their key, checked on every request.

HttpOnly and SameSite=Strict keep it from scripts and other sites; every form also carries a token
bound to the session (OWASP CSRF). Revoking the key ends the session at once. Gate: access.
"""

import hmac
import secrets
import time
from dataclasses import asdict, dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, Request, Response
from itsdangerous import BadSignature, URLSafeTimedSerializer

from app.api.state import RuntimeDep
from app.errors import AppError, Forbidden, RequestInvalid, StoreAway, Unauthenticated
from app.identity.principal import Principal
from app.identity.sign_in import Attempt
from app.settings import Settings

COOKIE = "console_session"
NOTICE = "console_notice"
ATTEMPT = "console_sign_in"
LIFETIME_S = 8 * 3600
ATTEMPT_S = 600


@dataclass(frozen=True)
class Session:
    principal: Principal
    csrf: str
    started: float  # seconds since the epoch

    def require_just_started(self) -> None:
        """Raise Forbidden for a session of earlier today: the provider's word about its person is as old."""
        if time.time() - self.started > ATTEMPT_S:
            raise Forbidden("Sign in at the identity provider again: a key is given to who has just done so.")

    def require_token(self, given: str) -> None:
        """Raise Forbidden unless the form came from this session's own page."""
        if not hmac.compare_digest(self.csrf.encode(), given.encode()):
            raise Forbidden("This form has expired; load the page again.")


class SignedOut(Exception):
    """No valid session: the console shows its sign-in page."""


def _signer(settings: Settings) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(settings.session_secret.get_secret_value(), salt="console")


def require_same_site(request: Request) -> None:
    """Raise Forbidden for a sign-in form sent by another site, which could sign a visitor in as somebody else."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        ours = site in {"same-origin", "none"}
    else:  # an older browser; "null" is what a page without referrer sends, ours included
        ours = origin in {None, "null"} or urlsplit(str(origin)).netloc == request.headers.get("host")
    if not ours:
        raise Forbidden("Sign in from this service's own page.")


def start(response: Response, settings: Settings, principal: Principal) -> None:
    value = _signer(settings).dumps(
        {
            "member": principal.member_id,
            "key": principal.key_id,
            "csrf": secrets.token_urlsafe(24),
            "started": time.time(),
        }
    )
    secure = settings.public_url.startswith("https://")
    response.set_cookie(
        COOKIE, value, max_age=LIFETIME_S, path="/console", httponly=True, samesite="strict", secure=secure
    )


def remember(response: Response, settings: Settings, attempt: Attempt) -> None:
    """Keep what a sign-in at the provider must come back with. Lax: the provider sends the browser back."""
    value = _attempts(settings).dumps(asdict(attempt))
    secure = settings.public_url.startswith("https://")
    response.set_cookie(
        ATTEMPT, value, max_age=ATTEMPT_S, path="/console", httponly=True, samesite="lax", secure=secure
    )


def remembered(request: Request, settings: Settings) -> Attempt:
    """Raises Unauthenticated where this browser has begun no sign-in lately."""
    try:
        return Attempt(**_attempts(settings).loads(request.cookies.get(ATTEMPT, ""), max_age=ATTEMPT_S))
    except (BadSignature, TypeError):
        raise Unauthenticated("sign-in: not begun here") from None


def forget_attempt(response: Response) -> None:
    response.delete_cookie(ATTEMPT, path="/console")


def _attempts(settings: Settings) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(settings.session_secret.get_secret_value(), salt="sign-in")


def end(response: Response) -> None:
    response.delete_cookie(COOKIE, path="/console")


def leave_notice(response: Response, settings: Settings, text: str) -> None:
    """Have the next page say this once. Signed, so that nobody else can put words on it."""
    value = URLSafeTimedSerializer(settings.session_secret.get_secret_value(), salt="notice").dumps(text)
    secure = settings.public_url.startswith("https://")
    response.set_cookie(NOTICE, value, max_age=60, path="/console", httponly=True, samesite="strict", secure=secure)


def read_notice(request: Request, settings: Settings) -> str:
    signer = URLSafeTimedSerializer(settings.session_secret.get_secret_value(), salt="notice")
    try:
        return str(signer.loads(request.cookies.get(NOTICE, ""), max_age=60))
    except BadSignature:
        return ""


def forget_notice(response: Response) -> None:
    response.delete_cookie(NOTICE, path="/console")


async def current(request: Request, runtime: RuntimeDep) -> Session:
    """Raises SignedOut when the cookie is missing, forged, too old or names whose access has ended; StoreAway.

    Raises RequestInvalid for a form with a field twice: which of them a person meant, nobody knows."""
    try:
        data: dict[str, Any] = _signer(runtime.settings).loads(request.cookies.get(COOKIE, ""), max_age=LIFETIME_S)
        principal = await runtime.directory.resume_session(data["member"], data["key"], data["started"])
    except StoreAway:
        raise
    except (BadSignature, AppError, KeyError):
        raise SignedOut from None
    if request.method == "POST":
        form = await request.form()
        if len(form.multi_items()) != len(form):
            raise RequestInvalid("A field of the form was sent twice.")
    return Session(principal, data["csrf"], data["started"])


SessionDep = Annotated[Session, Depends(current)]
