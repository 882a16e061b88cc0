"""When a provider fails: ask again within a budget, ask another model, or say so.

Each attempt is a metered call of its own, so budgets, switches and caps are asked again every time, and every attempt
is paid for. Gate: errors, cost.
"""

import itertools
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import anyio
import structlog
from pydantic_ai import RunContext
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolReturnPart, UserPromptPart
from pydantic_ai.models import ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from app.errors import (
    AppError,
    ProviderOverloaded,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    ServiceHalted,
)
from app.gateway.breaker import FAULTS, Admission, Health
from app.gateway.catalog import ResilienceRules
from app.gateway.metered import MeteredModel, calling
from app.gateway.routing import Look, Route, Routing
from app.telemetry.metrics import MODEL_FALLBACKS, MODEL_RETRIES

log = structlog.get_logger(__name__)
T = TypeVar("T")
# Another try may go better. A quota, a wrong key or a request that the provider rejects heals by no retry.
RETRYABLE = (ProviderRateLimited, ProviderOverloaded, ProviderUnavailable, ProviderTimeout)
LEFT_FOR_A_SPARE = 0.25  # of the deadline, for each model below
LEAST_TIME = timedelta(milliseconds=50)  # less is not worth a request


@dataclass(frozen=True)
class Rung:
    model: MeteredModel
    health: Health


Attempt = Callable[[MeteredModel, Admission, timedelta], Awaitable[T]]
Noted = Callable[[str, Route, str, bool], Awaitable[None]]  # run, route, its model, whether another one answered


class Ladder:
    """Models of which each stands in for those before it, asked within one deadline."""

    def __init__(self, rungs: Sequence[Rung], *, rules: ResilienceRules) -> None:
        self.rungs, self._rules = tuple(rungs), rules

    async def climbed(self, attempt: Attempt[T], deadline: timedelta) -> tuple[T, Rung]:
        """The first model's answer, or that of the first one below it that has any, and whose it is.

        Raises what the first one failed with, whatever happened below it."""
        until = time.monotonic() + deadline.total_seconds()
        failure: AppError | None = None
        for place, rung in enumerate(self.rungs):
            below = len(self.rungs) - place - 1
            left_for_others = below * LEFT_FOR_A_SPARE * deadline.total_seconds()
            try:
                answer = await self._tried(rung, until - left_for_others, attempt)
            except AppError as error:
                failure = failure or error
                if below == 0 or not _calls_for_a_spare(error, is_first=place == 0):
                    break
            else:
                if place > 0:
                    MODEL_FALLBACKS.labels(rung.model.name).inc()
                    log.warning("model.stood_in", model=rung.model.name, instead_of=self.rungs[0].model.name)
                return answer, rung
        raise failure or AssertionError("a ladder has a rung")

    async def _tried(self, rung: Rung, until: float, attempt: Attempt[T]) -> T:
        """One model, asked again where that may help and there is time and budget for it."""
        retries = rung.health.retries
        for number in itertools.count(1):
            left = timedelta(seconds=until - time.monotonic())
            if left < LEAST_TIME:
                raise ProviderTimeout
            if (admitted := rung.health.breaker.admit()) is None:
                raise ProviderUnavailable(retry_after=rung.health.breaker.rests)
            try:
                answer = await attempt(rung.model, admitted, left)
            except RETRYABLE as error:
                retries.failed()
                wait = self._wait(number, error)
                in_time = time.monotonic() + wait + LEAST_TIME.total_seconds() < until
                if admitted.is_trial or number >= self._rules.attempts or not retries.allows or not in_time:
                    raise
            else:
                retries.succeeded()
                return answer
            MODEL_RETRIES.labels(rung.model.name).inc()
            await anyio.sleep(wait)
        raise AssertionError("counting never ends")

    def _wait(self, number: int, error: AppError) -> float:
        """Seconds: a random part of an exponential step ("full jitter"), and no less than the provider asks for."""
        step = min(self._rules.longest_wait_ms, self._rules.first_wait_ms * 2 ** (number - 1)) / 1_000
        asked = error.retry_after.total_seconds() if error.retry_after else 0.0
        return asked + random.uniform(0, step)  # noqa: S311 - spreads load, hides nothing


class LadderModel(WrapperModel):
    """The models of every tier: each request goes to one that the router chooses, with those that stand in for it."""

    def __init__(self, tier: str, ladders: Mapping[str, Ladder], routing: Routing, noted: Noted) -> None:
        """`tier` is what the agent asks for: one of them, or AUTO."""
        super().__init__(ladders.get(tier, next(iter(ladders.values()))).rungs[0].model)
        self._tier, self._ladders, self._routing, self._noted = tier, ladders, routing, noted

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        async def ask(model: MeteredModel, admitted: Admission, within: timedelta) -> ModelResponse:
            settings = _within(model_settings, within)
            with admitted.watched():
                return await model.request(messages, settings, model_request_parameters)

        route, ladder = await self._routed(messages, model_request_parameters)
        answer, answering = await ladder.climbed(ask, _deadline(ladder, model_settings))
        await self._note(route, ladder, answering)
        return answer

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """Until its first byte a stream may be asked for again or elsewhere; from then on it is this model's."""
        route, ladder = await self._routed(messages, model_request_parameters)
        deadline = _deadline(ladder, model_settings)
        until = time.monotonic() + deadline.total_seconds()

        async def begin(
            model: MeteredModel, admitted: Admission, within: timedelta
        ) -> tuple[StreamedResponse, AsyncExitStack]:
            settings = _within(model_settings, timedelta(seconds=until - time.monotonic()))
            asked = model.request_stream(messages, settings, model_request_parameters, run_context, begins=within)
            async with AsyncExitStack() as attempt:
                attempt.enter_context(admitted.watched())  # to the end of the stream: it may still break
                stream = await attempt.enter_async_context(asked)
                return stream, attempt.pop_all()

        (stream, attempt), answering = await ladder.climbed(begin, deadline)
        async with attempt:
            await self._note(route, ladder, answering)
            yield stream

    async def _routed(self, messages: list[ModelMessage], parameters: ModelRequestParameters) -> tuple[Route, Ladder]:
        look = Look(_first_words(messages), tools=len(parameters.function_tools))
        route = await self._routing.route(calling.get().payer, self._tier, look)
        if _is_repair(messages):  # its own tier did not manage: once more, one tier up
            route = replace(route, tier=self._routing.router.above(route), reason="repair")
        return route, self._ladders[route.tier]

    async def _note(self, route: Route, ladder: Ladder, answering: Rung) -> None:
        await self._noted(
            calling.get().payer.run_id, route, ladder.rungs[0].model.name, answering is not ladder.rungs[0]
        )


def _calls_for_a_spare(error: AppError, *, is_first: bool) -> bool:
    """Whether another model may do better; for one below the first it is enough that the service is not halted."""
    if isinstance(error, ServiceHalted):
        return error.switch.startswith("model:")
    return not is_first or isinstance(error, (*FAULTS, ProviderRateLimited))


def _first_words(messages: Sequence[ModelMessage]) -> str:
    """What the conversation began with: later calls of it are judged alike."""
    parts = [part for part in messages[0].parts if isinstance(part, UserPromptPart)] if messages else []
    return "\n".join(part.content for part in parts if isinstance(part.content, str))


def _is_repair(messages: Sequence[ModelMessage]) -> bool:
    """Whether the last answer was in no form: the framework says so as a tool's result, or as one more prompt."""
    last = messages[-1].parts if len(messages) > 1 else []
    retried = any(isinstance(part, ToolReturnPart) and part.outcome == "retried" for part in last)
    return retried or any(isinstance(part, UserPromptPart) for part in last)


def _deadline(ladder: Ladder, settings: ModelSettings | None) -> timedelta:
    """For all models of a ladder, as much as the one of them that is given most."""
    return max(rung.model.agents_allowance(settings).deadline for rung in ladder.rungs)


def _within(settings: ModelSettings | None, deadline: timedelta) -> ModelSettings:
    return {**(settings or {}), "timeout": deadline.total_seconds()}
