"""What went wrong at a provider, in this service's own terms. Gate: security, errors."""

import math
from collections.abc import Mapping
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime

import httpx2
import structlog
from pydantic_ai.exceptions import (
    AgentRunError,
    ModelAPIError,
    ModelConnectionError,
    ModelHTTPError,
    ModelTimeoutError,
    UnexpectedModelBehavior,
)

from app.db.base import utc_now
from app.errors import (
    AppError,
    ContextTooLong,
    ModelOutputInvalid,
    ProviderAuthFailed,
    ProviderOverloaded,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
)
from app.gateway.refusals import RequestRefused, refusal

log = structlog.get_logger(__name__)
BY_STATUS: dict[int, type[AppError]] = {
    401: ProviderAuthFailed,
    402: ProviderQuotaExhausted,
    403: ProviderAuthFailed,
    408: ProviderTimeout,
    429: ProviderRateLimited,
    503: ProviderOverloaded,
    529: ProviderOverloaded,
}
TOO_LONG = ("context_length_exceeded", "prompt is too long", "request_too_large")


def classified(error: Exception) -> Exception:
    """The catalogue error for a failed call. Details of the provider's answer stay in the cause."""
    match error:
        case AppError():
            return error
        case TimeoutError() | ModelTimeoutError() | httpx2.TimeoutException():
            return ProviderTimeout()
        case ModelHTTPError(status_code=status):
            told = _of_status(status, str(error.body))
            if isinstance(error, RequestRefused) and isinstance(told, ProviderRejected):
                told = refusal(error) or told
            told.retry_after = retry_after(error.headers or {})
            return told
        case UnexpectedModelBehavior():
            return ModelOutputInvalid()
        case ModelAPIError() | AgentRunError() | httpx2.HTTPError():
            return ProviderUnavailable()
    return _of_answer(error)


def _of_answer(error: Exception) -> Exception:
    """What a provider's library stumbles over is the answer; anything else is no failure of a call."""
    if isinstance(error, LookupError | TypeError | ValueError | AttributeError | ArithmeticError | RecursionError):
        log.error("model.answer_unreadable", error=type(error).__name__)  # its own text may hold parts of the answer
        return ModelOutputInvalid()
    return error


def _of_status(status: int, body: str) -> AppError:
    """By what both the OpenAI and the Anthropic interface document for their errors."""
    if status in {400, 413} and any(word in body for word in TOO_LONG):
        return ContextTooLong()
    if status == 429 and "insufficient_quota" in body:
        return ProviderQuotaExhausted()
    if status in BY_STATUS:
        return BY_STATUS[status]()
    return ProviderRejected() if 400 <= status < 500 else ProviderUnavailable()


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """How long the provider asks to wait: `Retry-After` in seconds or as a date (RFC 9110), or its finer kin."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "")
        try:
            seconds = float(text) * unit
        except ValueError:
            continue
        return timedelta(seconds=min(seconds, 86_400.0)) if math.isfinite(seconds) and seconds >= 0 else None
    try:
        at = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    return max(timedelta(), (at if at.tzinfo else at.replace(tzinfo=UTC)) - utc_now())


def was_not_billed(error: Exception) -> bool:
    """True only when the provider certainly did no work: it answered with an error, or was never reached.

    A connection that broke later may have cost a whole answer."""
    if isinstance(error, ModelHTTPError):
        return True
    return isinstance(error, ModelConnectionError) and _never_connected(error)


def _never_connected(error: BaseException) -> bool:
    """By name, because each SDK brings the HTTP client of its choice."""
    reason: BaseException | None = error
    while reason is not None:
        if type(reason).__name__ in {"ConnectError", "ConnectTimeout", "PoolTimeout"}:
            return True
        reason = reason.__cause__ or reason.__context__
    return False
