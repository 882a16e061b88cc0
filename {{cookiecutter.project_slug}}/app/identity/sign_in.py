"""Signing people in at an OpenID Connect provider: the authorization code flow with PKCE (RFC 7636, RFC 9700).

Gate: access.
"""

import base64
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import structlog

from app.content.plain_json import NotJson, NotPlain, plain_json
from app.errors import AuthUnavailable, Unauthenticated
from app.identity.oidc import Subject, Verifier

log = structlog.get_logger(__name__)
Post = Callable[[str, Mapping[str, str]], Awaitable[tuple[int, str]]]


@dataclass(frozen=True)
class Attempt:
    """What one sign-in must come back with; kept by the browser, signed."""

    state: str
    nonce: str
    verifier: str

    @classmethod
    def new(cls) -> "Attempt":
        return cls(secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(64))

    @property
    def challenge(self) -> str:
        return base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()


@dataclass(frozen=True)
class SignIn:
    client_id: str
    client_secret: str | None
    authorization_url: str
    token_url: str
    redirect_url: str
    verifier: Verifier  # of identity tokens
    post: Post

    def address(self, attempt: Attempt) -> str:
        """Where to send the browser."""
        asked = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_url,
            "scope": "openid",
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        return f"{self.authorization_url}{'&' if '?' in self.authorization_url else '?'}{urlencode(asked)}"

    async def finish(self, attempt: Attempt, *, state: str, code: str, issuer: str | None) -> Subject:
        """Exchange the code for the one who signed in.

        Raises Unauthenticated for an answer that is not to this attempt, AuthUnavailable where nobody can say."""
        if not secrets.compare_digest(attempt.state.encode(), state.encode()):
            raise Unauthenticated("sign-in: state")
        if issuer is not None and issuer != self.verifier.issuer:
            raise Unauthenticated("sign-in: issuer")  # RFC 9207: the answer of another provider
        subject = await self.verifier.verify(await self._exchanged(attempt, code))
        if not secrets.compare_digest(str(subject.claims.get("nonce", "")).encode(), attempt.nonce.encode()):
            raise Unauthenticated("sign-in: nonce")
        if subject.claims.get("azp", self.client_id) != self.client_id:
            raise Unauthenticated("sign-in: authorized party")
        return subject

    async def _exchanged(self, attempt: Attempt, code: str) -> str:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_url,
            "client_id": self.client_id,
            "code_verifier": attempt.verifier,
        }
        if self.client_secret is not None:
            form["client_secret"] = self.client_secret
        try:
            status, text = await self.post(self.token_url, form)
        except Exception as error:  # noqa: BLE001 - whatever is wrong there, nobody is signed in
            log.warning("oidc.token_endpoint", error=type(error).__name__)
            raise AuthUnavailable from None
        if status >= 500 or status == 429:
            raise AuthUnavailable
        try:
            told: Any = plain_json(text.encode()) if status == 200 else {}
        except (NotJson, NotPlain):
            raise AuthUnavailable from None
        token = told.get("id_token") if isinstance(told, dict) else None
        if not isinstance(token, str):
            raise Unauthenticated("sign-in: code")
        return token
