"""What went wrong at a provider, in this service's own terms. Gate: security, errors."""

import httpx2
from pydantic_ai.exceptions import (
    AgentRunError,
    ModelAPIError,
    ModelConnectionError,
    ModelHTTPError,
    ModelTimeoutError,
    UnexpectedModelBehavior,
)

from app.errors import (
    AppError,
    ContextTooLong,
    ModelOutputInvalid,
    ProviderAuthFailed,
    ProviderOverloaded,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
)

TOO_LONG = ("context_length_exceeded", "prompt is too long", "request_too_large")


def classified(error: Exception) -> Exception:
    """The catalogue error for a failed call. Details of the provider's answer stay in the cause."""
    match error:
        case AppError():
            return error
        case TimeoutError() | ModelTimeoutError() | httpx2.TimeoutException():
            return ProviderTimeout()
        case ModelHTTPError(status_code=status):
            return _of_status(status, str(error.body))
        case UnexpectedModelBehavior() | IndexError() | KeyError():
            return ModelOutputInvalid()
        case ModelAPIError() | AgentRunError() | httpx2.HTTPError():
            return ProviderUnavailable()
    return error


def _of_status(status: int, body: str) -> AppError:
    """By what both the OpenAI and the Anthropic interface document for their errors."""
    match status:
        case 401 | 403:
            return ProviderAuthFailed()
        case 402:
            return ProviderQuotaExhausted()
        case 429:
            return ProviderQuotaExhausted() if "insufficient_quota" in body else ProviderRateLimited()
        case 503 | 529:
            return ProviderOverloaded()
        case 400 | 413 if any(word in body for word in TOO_LONG):
            return ContextTooLong()
    return ProviderUnavailable()


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
