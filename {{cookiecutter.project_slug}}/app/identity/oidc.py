"""Tokens of an OpenID Connect provider: who they speak for, once everything about them has been checked.

Issuer, audience, algorithms and the place of the keys come from settings and from nowhere else: not from the token's
header (`jku`, `x5u`, `jwk`) and not from its issuer's own discovery document. Access tokens are JWTs by RFC 9068.
What the library reads more leniently than RFC 7515 to 7519 and RFC 8725 is refused before it is asked.
Gate: access, errors.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import structlog

from app.background import start_detached
from app.content.plain_json import NotJson, NotPlain, plain_json
from app.db.base import utc_now
from app.errors import AuthUnavailable, CredentialExpired, Unauthenticated

log = structlog.get_logger(__name__)
LEEWAY_S = 10
MOST_BYTES = 8_000  # of a token
LAST_DATE = 2**36  # some two thousand years on: later ones are no date
KEYS_FRESH = timedelta(minutes=10)  # then they are fetched again
KEYS_USABLE = timedelta(hours=1)  # how long old ones serve while the provider is away
ASK_AGAIN = timedelta(seconds=30)  # at most this often for a key that is not there
_NEVER = datetime.min.replace(tzinfo=UTC)
ASYMMETRIC = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
# A key of the verifier's would turn its public half into a shared secret: no HMAC, and never none.
KINDS = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
Fetch = Callable[[str], Awaitable[str]]


@dataclass(frozen=True)
class Subject:
    """Whom a token speaks for, until when, and what it may be limited to."""

    issuer: str
    subject: str
    expires_at: datetime
    claims: Mapping[str, Any]


@dataclass(frozen=True)
class SigningKey:
    key: Any
    kind: str  # RSA, EC or OKP
    algorithm: str | None  # the only one it may be used with, where its set says so


@dataclass
class KeySet:
    """The provider's public keys: fetched from one address, kept for a while, asked again when one is missing."""

    url: str
    fetch: Fetch
    _keys: dict[str, SigningKey] = field(default_factory=dict)
    _fetched: datetime = _NEVER
    _asked: datetime = _NEVER
    _in_vain: bool = False  # the last time it was asked, nothing usable came
    _fetching: asyncio.Task[None] | None = None  # of everybody who waits for it, and nobody's

    async def find(self, kid: str) -> SigningKey:
        """The key of this id. Raises Unauthenticated where there is none, AuthUnavailable where nobody can say."""
        if not self._has_fresh(kid) and (self._fetching or utc_now() - self._asked >= ASK_AGAIN):
            if self._fetching is None:
                self._fetching = start_detached(self._refresh(), name="signing keys")
            await asyncio.shield(self._fetching)
        if utc_now() - self._fetched > KEYS_USABLE or (self._in_vain and kid not in self._keys):
            raise AuthUnavailable
        try:
            return self._keys[kid]
        except KeyError:
            raise Unauthenticated("unknown signing key") from None

    def _has_fresh(self, kid: str) -> bool:
        return kid in self._keys and utc_now() - self._fetched <= KEYS_FRESH

    async def _refresh(self) -> None:
        self._asked = utc_now()
        try:
            self._keys = _usable(plain_json((await self.fetch(self.url)).encode()))
            self._fetched, self._in_vain = utc_now(), False
        except Exception as error:  # noqa: BLE001 - whatever is wrong there, what is known goes on for a while
            self._in_vain = True
            log.warning("oidc.keys_not_fetched", error=type(error).__name__)
        finally:
            self._fetching = None


def _usable(found: Any) -> dict[str, SigningKey]:
    """Public signing keys by their id. One that is for something else, secret, or shares its id is left out."""
    listed: Sequence[Mapping[str, Any]] = found["keys"]
    ids = [key.get("kid") for key in listed]
    usable = [
        key
        for key in listed
        if isinstance(key.get("kid"), str)
        and ids.count(key["kid"]) == 1
        and key.get("kty") in {"RSA", "EC", "OKP"}
        and key.get("use", "sig") == "sig"
        and "verify" in (key.get("key_ops") or ["verify"])
        and key.get("alg", "RS256") in ASYMMETRIC
        and "d" not in key
    ]
    made: dict[str, SigningKey] = {}
    for key in usable:
        with suppress(jwt.PyJWTError, ValueError):  # one that nobody can read takes the others with it otherwise
            made[key["kid"]] = SigningKey(jwt.PyJWK(dict(key)).key, key["kty"], key.get("alg"))
    return made


@dataclass(frozen=True)
class Verifier:
    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    types: tuple[str, ...]  # of the header's `typ`, lower case: an identity token is no access token
    keys: KeySet

    async def verify(self, token: str) -> Subject:
        """Whom the token speaks for.

        Raises Unauthenticated, CredentialExpired, or AuthUnavailable where the keys cannot be had."""
        header, stated = _parsed(token)
        self._require_plain(header)
        _require_dates(stated)
        key = await self.keys.find(header["kid"])
        self._require_fitting(header, key)
        try:
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[header["alg"]],
                audience=self.audience,
                issuer=self.issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise CredentialExpired from None
        except (jwt.InvalidTokenError, ValueError, TypeError) as error:
            raise Unauthenticated(f"token: {type(error).__name__}") from None
        if claims != stated or not isinstance(claims["sub"], str) or not claims["sub"]:
            raise Unauthenticated("token: two readings")
        return Subject(self.issuer, claims["sub"], datetime.fromtimestamp(claims["exp"], UTC), claims)

    def _require_plain(self, header: Mapping[str, Any]) -> None:
        if header.get("alg") not in self.algorithms:
            raise Unauthenticated("token: algorithm")
        if "crit" in header or "b64" in header or not isinstance(header.get("kid"), str):
            raise Unauthenticated("token: header")
        if str(header.get("typ", "")).lower().removeprefix("application/") not in self.types:
            raise Unauthenticated("token: type")

    @staticmethod
    def _require_fitting(header: Mapping[str, Any], key: SigningKey) -> None:
        alg = str(header["alg"])
        if key.kind != KINDS[alg[:2]] or key.algorithm not in {None, alg}:
            raise Unauthenticated("token: key")


def _parsed(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, each one JSON object in canonical base64url. Raises Unauthenticated."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > MOST_BYTES:
        raise Unauthenticated("malformed")
    try:
        decoded = [_canonical(part) for part in parts]
        header, claims = plain_json(decoded[0]), plain_json(decoded[1])
    except (NotJson, NotPlain, ValueError):
        raise Unauthenticated("malformed") from None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise Unauthenticated("malformed")
    return header, claims


def _require_dates(claims: Mapping[str, Any]) -> None:
    """NumericDate is a JSON number (RFC 7519, 2); the library also reads text as one."""
    for name in ("exp", "iat", "nbf"):
        value = claims.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < LAST_DATE:
            raise Unauthenticated("token: date")


def _canonical(part: str) -> bytes:
    """Decode base64url as RFC 7515 writes it: the library takes other alphabets, padding and loose bits as well."""
    raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != part.encode():
        raise ValueError("not canonical")
    return raw
