"""What a provider says is wrong with a request, read from its answer, fit to be passed on. Gate: errors, security."""

import json
import re
from typing import Any

import structlog
from pydantic_ai.exceptions import ModelHTTPError

from app.content.invisible import escaped
from app.content.personal import replaced
from app.errors import ProviderRefusedRequest

log = structlog.get_logger(__name__)
ABOUT_THE_REQUEST = frozenset({400, 404, 413, 422})
MAX_REASON = 500  # characters
_NAME = re.compile(r"[A-Za-z0-9_.\[\]-]{1,100}")
# A model that the provider does not know stands in this service's configuration, not in a caller's request.
_OURS = re.compile(r"(?:model|deployment|api_?key|billing|quota)", re.IGNORECASE)


class RequestRefused(ModelHTTPError):
    """A provider's answer to a request that a caller wrote, with a status that is about the request."""


def refusal(error: RequestRefused) -> ProviderRefusedRequest | None:
    """What the caller is told; None where that is no error of an interface, or names a mistake of this service."""
    told = _told(str(error.body))
    if told is None:
        return None
    reason, param, code = (told.get(name) for name in ("message", "param", "code"))
    param, code = _name(param), _name(code)
    if not isinstance(reason, str) or not reason.strip() or _OURS.match(param or "") or _OURS.search(code or ""):
        return None
    if error.status_code == 404 and param is None:  # an address that is not there
        return None
    reason = replaced(escaped(" ".join(reason.split())), lambda kind, _: f"[{kind}]")[:MAX_REASON]
    log.warning("provider.refused_request", status=error.status_code, param=param, told_code=code, reason=reason)
    return ProviderRefusedRequest(reason, param=param, openai_code=code)


def _told(body: str) -> dict[str, Any] | None:
    """The error object of OpenAI's and Anthropic's interfaces, or what others put in its place."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    error = answer.get("error", answer) if isinstance(answer, dict) else None
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else None


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) and _NAME.fullmatch(value) else None
