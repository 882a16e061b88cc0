"""The error taxonomy: one class per catalogue code, raised by every part, mapped to HTTP in one place.

A job, a tool, an evaluation and a route raise the same errors. `api/problems` turns them into
`application/problem+json` (RFC 9457); nothing else knows a status code. Gate: errors.
"""

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar


@dataclass(frozen=True)
class ErrorCode:
    """A row of the catalogue: what a caller sees and what operations do about it."""

    code: str
    status: int
    title: str
    retryable: bool = False
    page: bool = False  # reported to Sentry as an error; the others are a caller's business


class AppError(Exception):
    """A failure with a meaning. `detail` is shown to the caller: never put input or internals in it."""

    row: ClassVar[ErrorCode]
    param: str | None = None  # of OpenAI's interface: the parameter that is wrong
    openai_code: str | None = None  # what its clients look for, where it has a word of its own

    def __init__(self, detail: str | None = None, *, retry_after: timedelta | None = None) -> None:
        self.detail = detail or self.row.title
        self.retry_after = retry_after
        super().__init__(self.detail)


class RequestMalformed(AppError):
    row = ErrorCode("request.malformed", 400, "The request could not be read.")


class RequestInvalid(AppError):
    row = ErrorCode("request.invalid", 422, "Some fields are not valid.")

    def __init__(self, detail: str | None = None, *, pointers: list[tuple[str, str]] | None = None) -> None:
        super().__init__(detail)
        self.pointers = pointers or []  # (JSON Pointer, reason); never the offending value


class RequestTooLarge(AppError):
    row = ErrorCode("request.too_large", 413, "That is too large.")


class UnsupportedMedia(AppError):
    row = ErrorCode("request.unsupported_media", 415, "Unsupported content type: send application/json.")


class RequestTimedOut(AppError):
    row = ErrorCode("request.timed_out", 408, "The request did not arrive in time.", retryable=True)


class HeadersTooLarge(AppError):
    row = ErrorCode("request.headers_too_large", 431, "The headers of the request are too large.")


class BodiesInFlight(AppError):
    """This process holds as many bytes of requests as it may, or as one sender may have it hold."""

    row = ErrorCode("request.too_much_at_once", 503, "Too much is being sent at the moment; try again.", retryable=True)


class MethodNotAllowed(AppError):
    row = ErrorCode("request.method_not_allowed", 405, "This resource does not offer that method.")


class Unauthenticated(AppError):
    row = ErrorCode("auth.unauthenticated", 401, "Please sign in with a valid credential.")

    def __init__(self, reason: str = "missing") -> None:
        super().__init__()
        self.reason = reason  # for the operators' log: the caller learns nothing of it


class CredentialExpired(AppError):
    row = ErrorCode("auth.expired", 401, "Your credential has expired.")
    reason = "expired"


class AuthUnavailable(AppError):
    row = ErrorCode("auth.unavailable", 503, "Signing in is not possible at the moment.", retryable=True, page=True)


class Forbidden(AppError):
    row = ErrorCode("auth.forbidden", 403, "You do not have access to this action.")


class NotFound(AppError):
    row = ErrorCode("resource.not_found", 404, "Not found.")


class AddressUnknown(NotFound):
    """An address of OpenAI's interface that there is not; `detail` says which one is meant."""


class Conflict(AppError):
    row = ErrorCode("resource.conflict", 409, "This changed since you loaded it.")


class IdempotencyKeyMissing(AppError):
    row = ErrorCode("idempotency.key_missing", 400, "Add an Idempotency-Key header (1 to 255 visible characters).")


class IdempotencyKeyReused(AppError):
    row = ErrorCode("idempotency.key_reused", 422, "This Idempotency-Key was used for another request.")


class RateLimited(AppError):
    """More requests than a limit of config/limits.toml allows; `policy` is its name, quota and window in seconds."""

    row = ErrorCode("rate.limited", 429, "Too many requests.", retryable=True)

    def __init__(self, policy: tuple[str, int, int], retry_after: timedelta) -> None:
        seconds = max(1, math.ceil(retry_after.total_seconds()))
        super().__init__(f"Too many requests; try again in {seconds} s.", retry_after=timedelta(seconds=seconds))
        self.policy = policy


class BudgetExceeded(AppError):
    """The hard cap of a scope is reached.

    402 and not 429, because provider SDKs retry a 429 by themselves."""

    row = ErrorCode("budget.exceeded", 402, "This workspace reached its AI budget.")

    def __init__(
        self, scope: str, resets_at: str, *, limited_by: str = "the platform's operators", frozen_by: str = ""
    ) -> None:
        """`limited_by` says whose limit it is, `frozen_by` who has frozen it, both for people to read."""
        used_up = f"is used up; it resets at {resets_at}. The limit was set by {limited_by}."
        whose = "the whole service" if scope == "global" else f"this {scope}"
        super().__init__(f"The AI budget of {whose} {f'is frozen by {frozen_by}.' if frozen_by else used_up}")
        self.scope = scope


class RunLimitExceeded(AppError):
    row = ErrorCode("budget.run_limit", 422, "This task hit its limit of steps, time or cost.")


class ApprovalExpired(AppError):
    row = ErrorCode("policy.approval_expired", 410, "The approval expired; start the task again.")


class ModelOutputInvalid(AppError):
    row = ErrorCode("model.output_invalid", 502, "The assistant's answer was not usable.", retryable=True)


class ModelRefused(AppError):
    row = ErrorCode("model.refused", 422, "The assistant declined this task.")


class ModelTruncated(AppError):
    row = ErrorCode("model.truncated", 502, "The assistant's answer was cut at its length limit.")


class ContextTooLong(AppError):
    row = ErrorCode("model.context_too_long", 422, "The task and its documents are too long for the model.")


class RunCancelled(AppError):
    row = ErrorCode("run.cancelled", 409, "This task was cancelled.")


class RunDeadLettered(AppError):
    """The work ended its process again and again; it is set aside so that other work goes on."""

    row = ErrorCode("run.dead_lettered", 500, "The task could not be finished after several attempts.", page=True)


class ModelUnknown(AppError):
    """The configuration names a model or a tier that there is not."""

    row = ErrorCode("model.unknown", 422, "That model is not in this service's catalogue.")


class ModelNotFound(AppError):
    """No model answers to the name that a caller gives."""

    row = ErrorCode("model.not_found", 404, "That model is not offered here.")
    param, openai_code = "model", "model_not_found"


class ModelUnpriced(AppError):
    row = ErrorCode("model.unpriced", 503, "AI features are temporarily unavailable.", page=True)


class ProviderRateLimited(AppError):
    row = ErrorCode("provider.rate_limited", 503, "The AI service is busy.", retryable=True)


class ProviderOverloaded(AppError):
    row = ErrorCode("provider.overloaded", 503, "The AI service is busy.", retryable=True)


class ProviderQuotaExhausted(AppError):
    """The provider's own limit on our account is reached: no retry heals it."""

    row = ErrorCode("provider.quota_exhausted", 503, "AI features are temporarily unavailable.", page=True)


class ProviderTimeout(AppError):
    row = ErrorCode("provider.timeout", 504, "That took too long.", retryable=True)


class ProviderUnavailable(AppError):
    row = ErrorCode("provider.unavailable", 503, "AI features are temporarily limited.", retryable=True)


class ProviderRejected(AppError):
    """The provider takes the request itself for wrong, so no retry and no other model is tried."""

    row = ErrorCode("provider.rejected", 502, "The AI service could not process this task.", page=True)


class ProviderRefusedRequest(AppError):
    """The provider says what is wrong with a caller's own request, and the caller is told; no retry, no other model."""

    row = ErrorCode("provider.refused_request", 400, "The model's provider refused the request.")

    def __init__(self, detail: str | None = None, *, param: str | None = None, openai_code: str | None = None) -> None:
        """`detail` is for people to read, the others are the provider's own words of its interface."""
        super().__init__(detail)
        self.param, self.openai_code = param, openai_code


class ProviderAuthFailed(AppError):
    row = ErrorCode("provider.auth_failed", 503, "AI features are temporarily unavailable.", page=True)


class ServiceHalted(AppError):
    """A kill switch is on; `switch` is its name, for this service's own decisions."""

    row = ErrorCode("service.halted", 503, "AI actions are paused by the operator.")

    def __init__(self, switch: str = "") -> None:
        super().__init__()
        self.switch = switch


class StoreAway(AppError):
    """The database cannot be reached, is too busy or too slow: nothing was changed by the transaction that met it."""

    row = ErrorCode(
        "service.store_unavailable", 503, "This is not possible at the moment; try again.", retryable=True, page=True
    )


class ServiceDraining(AppError):
    row = ErrorCode("service.draining", 503, "This connection ends here; connect again.", retryable=True)


class Unexpected(AppError):
    row = ErrorCode("internal.unexpected", 500, "Something went wrong; quote the request id.", page=True)


CATALOGUE: dict[str, ErrorCode] = {cls.row.code: cls.row for cls in AppError.__subclasses__()}
