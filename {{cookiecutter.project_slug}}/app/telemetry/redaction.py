"""Secrets and personal data are removed before anything leaves for logs or Sentry. Gate: security, validation."""

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from app.content.personal import replaced

MASK = "[redacted]"
SENSITIVE_KEYS = re.compile(
    r"(authorization|cookie|api_?key|secret|password|token|dsn|prompt|document|task|body)", re.IGNORECASE
)
_CREDENTIALS = re.compile(r"\b(?:postgresql|redis|https?)://[^\s/@:]+:[^\s/@]+@")  # in a URL


SHORT_NUMBER = 10**12  # a longer one may be a card's
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
            return replaced(_CREDENTIALS.sub(MASK, value), lambda _kind, _value: MASK)
        case dict():
            return {scrub(k): MASK if SENSITIVE_KEYS.search(str(k)) else scrub(v) for k, v in value.items()}
        case list() | tuple() | set() | frozenset():
            return [scrub(item) for item in value]
        case None | bool() | float():
            return value
        case int():
            return value if abs(value) < SHORT_NUMBER else scrub(str(value))
    return scrub(str(value))  # an exception's text says as much as any other
