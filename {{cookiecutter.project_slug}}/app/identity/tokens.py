"""API keys: `svc_<environment>_<id>_<secret>`, 32 random bytes, stored only as SHA-256.

A slow password hash would protect guessable secrets; 256 random bits need none (OWASP ASVS 5.0, 11.4).
Gate: access.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass

SCHEME = "svc_"
CLAIM_SCHEME = "claim_"
_FORM = re.compile(r"^svc_[a-z]{2,11}_([a-z0-9]{12})_([A-Za-z0-9_-]{43})$")
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True)
class NewKey:
    prefix: str
    token: str
    secret_hash: str


def generate(environment: str) -> NewKey:
    prefix = "".join(secrets.choice(_ALPHABET) for _ in range(12))
    secret = secrets.token_urlsafe(32)
    return NewKey(prefix, f"svc_{environment}_{prefix}_{secret}", hash_secret(secret))


def generate_claim() -> str:
    """A one-time code of 256 random bits; like a key's secret, only its hash is kept."""
    return f"{CLAIM_SCHEME}{secrets.token_urlsafe(32)}"


def parse(token: str) -> tuple[str, str] | None:
    """Split a token into (prefix, secret); None when it has not the form of one."""
    match = _FORM.fullmatch(token)
    return (match[1], match[2]) if match else None


NO_HASH = "0" * 64  # of no secret


def hash_secret(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
