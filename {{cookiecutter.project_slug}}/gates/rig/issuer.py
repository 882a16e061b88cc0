"""An OpenID Connect provider that signs whatever a proof wants, and publishes its keys where it says it does."""

import base64
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from jwt.algorithms import RSAAlgorithm

from gates.rig.wire import listening, respond

AUDIENCE = "https://api.rig.test"
CLIENT = "console"


def new_key() -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


def encoded(raw: bytes) -> str:
    """base64url without padding (RFC 7515, 2)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(header: bytes, claims: bytes, key: RSAPrivateKey) -> str:
    """A compact JWS of these very bytes, signed with RS256 whatever the header says."""
    told = f"{encoded(header)}.{encoded(claims)}"
    return f"{told}.{encoded(RSAAlgorithm(RSAAlgorithm.SHA256).sign(told.encode(), key))}"


@dataclass
class Issuer:
    url: str = ""
    keys: dict[str, RSAPrivateKey] = field(default_factory=lambda: {"k1": new_key()})
    published: list[dict[str, Any]] = field(default_factory=list)  # besides its own
    fetched: int = 0
    down: bool = False
    codes: dict[str, str] = field(default_factory=dict)  # what the token endpoint answers a code with: an ID token

    def token(
        self,
        subject: str,
        *,
        kid: str = "k1",
        key: RSAPrivateKey | None = None,
        header: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """An access token by RFC 9068. A header or claim given as None is left out."""
        now = int(time.time())
        head = {"alg": "RS256", "typ": "at+jwt", "kid": kid, **(header or {})}
        body = {
            "iss": self.url, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 300, "jti": uuid4().hex,
            "client_id": CLIENT, **claims,
        }  # fmt: skip
        head_bytes, body_bytes = (
            json.dumps({n: v for n, v in part.items() if v is not None}).encode() for part in (head, body)
        )
        return signed(head_bytes, body_bytes, key or self.keys[kid])

    def jwk(self, kid: str) -> dict[str, Any]:
        public: dict[str, Any] = RSAAlgorithm.to_jwk(self.keys[kid].public_key(), as_dict=True)
        return {**public, "kid": kid}

    @property
    def settings(self) -> dict[str, str]:
        return {"OIDC_ISSUER": self.url, "OIDC_AUDIENCE": AUDIENCE, "OIDC_JWKS_URL": f"{self.url}/jwks"}

    @property
    def sign_in_settings(self) -> dict[str, str]:
        """With the console's part: people sign in there."""
        return {
            **self.settings,
            "OIDC_CLIENT_ID": CLIENT,
            "OIDC_AUTHORIZATION_URL": f"{self.url}/authorize",
            "OIDC_TOKEN_URL": f"{self.url}/token",
        }

    def code(self, subject: str, nonce: str, **claims: Any) -> str:
        """What the browser brings back after this person has signed in for an attempt with this nonce."""
        code = uuid4().hex
        told = {"aud": CLIENT, "nonce": nonce, **claims}
        self.codes[code] = self.token(subject, header={"typ": "JWT"}, **told)
        return code

    def _exchange(self, request: BaseHTTPRequestHandler, raw: bytes) -> None:
        code = parse_qs(raw.decode()).get("code", [""])[0]
        token = self.codes.pop(code, None)  # once, as RFC 6749 has it
        if token is None:
            respond(request, 400, b'{"error": "invalid_grant"}', "application/json")
            return
        told = {"access_token": "x", "token_type": "Bearer", "id_token": token}
        respond(request, 200, json.dumps(told).encode(), "application/json")

    def handle(self, request: BaseHTTPRequestHandler, raw: bytes) -> None:
        if request.path == "/token" and not self.down:
            self._exchange(request, raw)
            return
        self.fetched += 1
        if self.down:
            respond(request, 503, b"", "text/plain")
            return
        found = {"keys": [*(self.jwk(kid) for kid in self.keys), *self.published]}
        respond(request, 200, json.dumps(found).encode(), "application/json")


@contextmanager
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    with listening(made.handle) as made.url:
        yield made
