"""What went wrong at a provider, in this service's own terms. Gate: security."""

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
    ModelOutputInvalid,
    ProviderAuthFailed,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
)


def classified(error: Exception) -> Exception:  # noqa: PLR0911 - a table reads best as one match
    """The catalogue error for a failed call. Details of the provider's answer stay in the cause."""
    match error:
        case AppError():
            return error
        case TimeoutError() | ModelTimeoutError() | httpx2.TimeoutException():
            return ProviderTimeout()
        case ModelHTTPError(status_code=401 | 403):
            return ProviderAuthFailed()
        case ModelHTTPError(status_code=429):
            return ProviderRateLimited()
        case UnexpectedModelBehavior() | IndexError() | KeyError():
            return ModelOutputInvalid()
        case ModelAPIError() | AgentRunError() | httpx2.HTTPError():
            return ProviderUnavailable()
    return error


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
