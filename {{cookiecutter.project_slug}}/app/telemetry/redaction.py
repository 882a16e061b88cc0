"""Secrets and personal data are removed before anything leaves for logs or Sentry. Gate: security."""

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

MASK = "[redacted]"
_SENSITIVE_KEYS = re.compile(
    r"(authorization|cookie|api_?key|secret|password|token|dsn|prompt|document|task|body)", re.IGNORECASE
)
_SECRETS = re.compile(
    r"svc_[a-z]{2,11}_[a-z0-9]{12}_[A-Za-z0-9_-]{43}"  # this service's own keys
    r"|\b(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}"  # provider keys
    r"|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{30,}|\bxox[abprs]-[A-Za-z0-9-]{10,}"
    r"|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*"  # JSON web tokens
    r"|\b(?:postgresql|redis|https?)://[^\s/@:]+:[^\s/@]+@"  # credentials in a URL
    r"|\b[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+\b"  # e-mail addresses
)


SHORTEST = 8  # a shorter value would mask ordinary words
_known: list[str] = []  # this process's own secrets: no pattern knows how they look


def protect(secrets: Iterable[str]) -> None:
    """Mask these values from now on wherever they appear, also inside the text of an exception."""
    forms = {form for secret in secrets if len(secret) >= SHORTEST for form in (secret, quote(secret, safe=""))}
    _known[:] = sorted(forms | set(_known), key=len, reverse=True)


def scrub(value: Any) -> Any:
    """A copy with secrets masked: this process's own, by the name of a field, and by the look of a value."""
    match value:
        case str():
            for secret in _known:
                value = value.replace(secret, MASK)
            return _SECRETS.sub(MASK, value)
        case dict():
            return {k: MASK if _SENSITIVE_KEYS.search(str(k)) else scrub(v) for k, v in value.items()}
        case list() | tuple():
            return [scrub(item) for item in value]
    return value
