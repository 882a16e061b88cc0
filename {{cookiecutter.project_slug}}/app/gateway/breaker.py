"""How a model of a provider is doing, as this process has seen it: whether to ask it, and whether to ask it again.

Gate: errors.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from app.errors import (
    ModelOutputInvalid,
    ModelRefused,
    ModelTruncated,
    ProviderAuthFailed,
    ProviderOverloaded,
    ProviderQuotaExhausted,
    ProviderRefusedRequest,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
)
from app.telemetry.metrics import BREAKER_OPEN

log = structlog.get_logger(__name__)
# The model is not well; one more in a row and it is left alone for a while.
FAULTS = (
    ProviderOverloaded, ProviderUnavailable, ProviderTimeout, ProviderAuthFailed, ProviderQuotaExhausted,
    ModelOutputInvalid,
)  # fmt: skip
# Not what was hoped for, and an answer: the model is well.
ANSWERS = (ModelRefused, ModelTruncated, ProviderRejected, ProviderRefusedRequest)


class RetryBudget:
    """Retries are for exceptions: where most calls fail they would multiply the load that makes them fail.

    After gRPC's retry throttling (proposal A6): a failure takes a token, a success gives a tenth of one back, and there
    are retries while more than half are left; so in the long run at most about one call in ten is a retry."""

    MOST, EARNED = 10.0, 0.1

    def __init__(self) -> None:
        self._tokens = self.MOST

    @property
    def allows(self) -> bool:
        return self._tokens > self.MOST / 2

    def failed(self) -> None:
        self._tokens = max(0.0, self._tokens - 1)

    def succeeded(self) -> None:
        self._tokens = min(self.MOST, self._tokens + self.EARNED)


class Breaker:
    """Closed, until a number of faults in a row opens it; after a rest one call is let through, and its end decides."""

    def __init__(
        self, model: str, *, faults: int, rest: timedelta, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._model, self._most, self._rest, self._clock = model, faults, rest.total_seconds(), clock
        self._faults, self._opened, self._era, self._on_trial = 0, -1.0, 0, False

    def admit(self) -> "Admission | None":
        """Leave to make one call, None while the model is left alone. The call's end must be told."""
        if self._opened < 0:
            return Admission(self, self._era, is_trial=False)
        if self._on_trial or self.rests.total_seconds() > 0:
            return None
        self._on_trial = True
        return Admission(self, self._era, is_trial=True)

    @property
    def rests(self) -> timedelta:
        """How long the model is left alone from now on."""
        return timedelta(seconds=max(0.0, self._opened + self._rest - self._clock()) if self._opened >= 0 else 0.0)

    def end(self, call: "Admission", fault: bool | None) -> None:
        """A call has ended: with a fault of the model's, without, or (None) with nothing that tells.

        What ends after the breaker has changed its mind is of no interest any more."""
        if call.era != self._era:
            return
        if call.is_trial:
            self._on_trial = False
        if fault is None:
            return
        self._faults = self._faults + 1 if fault else 0
        if fault and (call.is_trial or self._faults >= self._most):
            self._change(opened=self._clock())
        elif call.is_trial:
            self._change(opened=-1.0)

    def _change(self, opened: float) -> None:
        self._opened, self._faults, self._on_trial = opened, 0, False
        self._era += 1
        BREAKER_OPEN.labels(self._model).set(opened >= 0)
        log.warning("model.breaker", model=self._model, state="closed" if opened < 0 else "open")


@dataclass(frozen=True)
class Admission:
    """Leave to make one call: a trial while the breaker is half open."""

    breaker: Breaker
    era: int
    is_trial: bool

    @contextmanager
    def watched(self) -> Iterator[None]:
        """The call itself; how it ends is told to the breaker."""
        fault: bool | None = None
        try:
            yield
            fault = False
        except FAULTS:
            fault = True
            raise
        except ANSWERS:
            fault = False
            raise
        finally:
            self.breaker.end(self, fault)


@dataclass(frozen=True)
class Health:
    """What a process knows of one model."""

    breaker: Breaker
    retries: RetryBudget = field(default_factory=RetryBudget)
