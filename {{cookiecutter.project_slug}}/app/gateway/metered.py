"""Every model call passes here: redaction, switch, worst case held, call under a deadline, real cost settled.

It sits inside the model, not around the agent, so plain requests and streams are both metered.
Gate: errors, cost, validation, observability, deployment, monitoring.
"""

import math
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import anyio
import structlog
from pydantic_ai import RunContext
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage

from app.background import run_to_completion
from app.budgets.caps import Payer
from app.budgets.ledger import CallPurpose, Claim, Ledger, Reservation, Used
from app.db.engine import require_no_transaction
from app.draining import checkpoint
from app.errors import AppError, ContextTooLong, ModelRefused, ModelTruncated, Unexpected
from app.gateway.alias_drift import look_at_name
from app.gateway.allowance import Allowance, CallLimits, allowance
from app.gateway.catalog import Catalog
from app.gateway.failures import classified, was_not_billed
from app.gateway.provider_json import REASONING, writable_response
from app.gateway.received import Received
from app.gateway.redaction import hidden, shown
from app.switches.board import Board
from app.telemetry.metrics import MODEL_CALLS, MODEL_COST_USD, USAGE_DISPUTED

log = structlog.get_logger(__name__)
PROVIDERS_OWN_TOKENS = 1_000  # at most, of input that a provider adds to a request, as for its use of tools
MAX_RECORDED = 2**53 - 1  # the largest whole number that canonical JSON holds exactly
ASSUMED_CONTEXT_TOKENS = 128_000  # of a model whose context nobody knows
BYTES_PER_TOKEN = 3  # at least, in every language: English has four, Chinese three
MESSAGE_OVERHEAD_TOKENS = 16  # role markers and separators a provider adds to each message


@dataclass(frozen=True)
class CallContext:
    """Who pays for the model calls of this task, and what they are for."""

    payer: Payer
    feature: str
    prompt_version: str


calling: ContextVar[CallContext] = ContextVar("calling")  # unset: no model call is possible


@contextmanager
def charged(call: CallContext) -> Iterator[None]:
    """Have the model calls of this task charged to a payer until the block ends."""
    token = calling.set(call)
    try:
        yield
    finally:
        calling.reset(token)


class MeteredModel(WrapperModel):
    def __init__(
        self, wrapped: Model, *, tier: str, catalog: Catalog, ledger: Ledger, board: Board, limits: CallLimits
    ) -> None:
        super().__init__(wrapped)
        self._tier, self._catalog, self._ledger, self._board, self._limits = tier, catalog, ledger, board, limits
        self.name = catalog.entry(tier).model

    def allowance(self, asked: int | None, effort: str | None = None) -> Allowance:
        """What a call may have that asks for so many tokens, and to reason with that effort; None: says nothing."""
        ceiling = self._catalog.entry(self._tier).max_output_tokens
        reasoning = self._catalog.reasoning_tokens(self._tier, effort)
        return allowance(self._limits, asked, ceiling=ceiling, reasoning=reasoning)

    def agents_allowance(self, settings: ModelSettings | None) -> Allowance:
        """An agent has the default's length and time at most; it may ask for less of either."""
        asked = (settings or {}).get("max_tokens") or self._limits.max_tokens
        return self.allowance(min(asked, self._limits.max_tokens))

    def not_taken(self, effort: str | None) -> frozenset[str]:
        """Parameters of the chat interface that the model refuses when it reasons with that effort."""
        return self._catalog.not_taken(self._tier, effort)

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        settings = self._clamped(model_settings)
        sent, model_request_parameters, placeholders = hidden(messages, model_request_parameters)
        bill = Bill(input_bound(sent, model_request_parameters), settings["max_tokens"])
        async with self.metered(bill, _seconds(settings)):
            response = await self.wrapped.request(sent, settings, model_request_parameters)
            bill.usage = response.usage
            bill.answered = response.model_name or ""
        return _whole(shown(writable_response(response), placeholders))

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
        *,
        begins: timedelta | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """`begins`: how long its first byte may take, where that is less than the whole may."""
        settings = self._clamped(model_settings)
        sent, model_request_parameters, _ = hidden(messages, model_request_parameters)  # a piece may end within one
        bill = Bill(input_bound(sent, model_request_parameters), settings["max_tokens"])
        async with self.metered(bill, _seconds(settings)):
            with anyio.fail_after(min(_seconds(settings), begins.total_seconds() if begins else math.inf)) as opening:
                async with self.wrapped.request_stream(sent, settings, model_request_parameters, run_context) as stream:
                    opening.deadline = math.inf
                    yield stream
                    bill.usage = stream.usage  # not reached on an abort: then the worst case is charged
                    bill.answered = stream.model_name or ""

    def _clamped(self, settings: ModelSettings | None) -> ModelSettings:
        """No more output and no more time than allowed; a caller may ask for less of either."""
        allowed = self.agents_allowance(settings)
        seconds = min(allowed.deadline.total_seconds(), _seconds(settings))
        return {**(settings or {}), "max_tokens": allowed.tokens, "timeout": seconds}

    @asynccontextmanager
    async def metered(self, bill: "Bill", seconds: float) -> AsyncGenerator[None]:
        """One request at the provider, within so many seconds: its worst case is held, then what it cost is booked.

        Raises what the request failed with, in the catalogue's terms."""
        require_no_transaction("model call")
        await checkpoint()
        call = calling.get()
        # The model's own comes last: where one of the others is on as well, no other model stands in.
        switches = ("runs", f"tenant:{call.payer.tenant_id}", f"feature:{call.feature}", f"model:{self.name}")
        await self._board.require_clear(*switches)
        self._require_room(bill)
        purpose = CallPurpose(call.feature, self.name, call.prompt_version, self._tier)
        held = await self._ledger.reserve(call.payer, self._price(bill.worst), purpose)
        # No await from here to the `try`: whoever was granted a hold settles it, cancelled or not.
        outcome = "left"
        try:
            with anyio.fail_after(seconds), self._board.obeyed(*switches):
                yield
            outcome = "ok"
        except Exception as error:
            if was_not_billed(error):
                bill.usage = RequestUsage()
            told = classified(error)
            outcome = (told.row if isinstance(told, AppError) else Unexpected.row).code
            if told is error:
                raise
            raise told from error
        except BaseException:  # whoever asked has left
            bill.leave()
            raise
        finally:
            await run_to_completion(self._settle(held, bill, outcome))

    def _require_room(self, bill: "Bill") -> None:
        """Raise ContextTooLong for what cannot fit: the provider would charge for reading it, or cut it silently."""
        room = self._catalog.context_tokens(self._tier)
        if room is not None and bill.worst.input_tokens // BYTES_PER_TOKEN + bill.worst.output_tokens > room:
            raise ContextTooLong

    async def _settle(self, held: Reservation, bill: "Bill", outcome: str) -> None:
        missing, claim = bill.missing(outcome), None
        if not missing and bill.is_impossible(self._catalog.context_tokens(self._tier) or ASSUMED_CONTEXT_TOKENS):
            claim = Claim(*(min(n, MAX_RECORDED) for n in (bill.usage.input_tokens, bill.usage.output_tokens)))
            USAGE_DISPUTED.inc()
            log.error("model.usage_disputed", call=held.id, model=self.name, **vars(claim))
        usage = bill.worst if missing or claim else bill.usage
        cost = self._price(usage)
        bill.cost_micro = cost
        look_at_name(bill.answered, self.name)
        used = Used(cost, usage.input_tokens, usage.output_tokens)
        await self._ledger.settle(held, used, claim, outcome=outcome)
        MODEL_CALLS.labels(self.name, "ok" if outcome == "ok" else "failed").inc()
        MODEL_COST_USD.labels(self.name).inc(cost / 1_000_000)

    def _price(self, usage: RequestUsage) -> int:
        if not usage.input_tokens and not usage.output_tokens:
            return 0
        return self._catalog.cost_micro(
            self._tier,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=max(0, usage.cache_read_tokens),
            cache_write_tokens=max(0, usage.cache_write_tokens),
            cache_write_1h_tokens=max(0, usage.cache_write_1h_tokens),
        )


def _seconds(settings: ModelSettings | None) -> float:
    """The time a request is given."""
    asked = (settings or {}).get("timeout")
    return float(asked) if isinstance(asked, int | float) else math.inf


def _whole(response: ModelResponse) -> ModelResponse:
    """The answer, unless the provider says that it is none. Raises ModelRefused, ModelTruncated; both were paid for."""
    match response.finish_reason:
        case "content_filter":
            raise ModelRefused
        case "length":
            raise ModelTruncated
    return response


class Bill:
    """What a call is charged: the worst case until the provider has said better."""

    def __init__(self, input_tokens: int, output_tokens: int, *, unseen: int = 0) -> None:
        """`unseen`: how many of the output tokens may be there without a text that shows them."""
        self.worst = RequestUsage(input_tokens=input_tokens, output_tokens=output_tokens)
        self.usage = self.worst
        self.received = Received()  # of a stream
        self.answered = ""  # the model that the provider names in its answer
        self._unseen = unseen
        self.cost_micro = 0  # known when it is settled

    def leave(self) -> None:
        """Charge what has come of a stream, and what may come until its provider notices that nobody reads on."""
        received = self.received.tokens_at_most()
        if self.usage is self.worst and received is not None:
            output = min(self.worst.output_tokens, received + self._unseen)
            self.usage = RequestUsage(input_tokens=self.worst.input_tokens, output_tokens=output)

    def missing(self, outcome: str) -> bool:
        """A reply without usage is not free: providers and proxies drop it, so it costs the worst case."""
        tokens = (self.usage.input_tokens, self.usage.output_tokens)
        if not all(type(count) is int and count >= 0 for count in tokens):
            return True
        return outcome == "ok" and not self.usage.input_tokens  # no request is without input

    def is_impossible(self, context_tokens: int) -> bool:
        """Whether the call cannot have used what the provider reports: that is believed no more than no report.

        The cap on output holds for what can be seen of it; some models reason beyond it, within their context."""
        told = self.usage.details.get(REASONING, 0)
        reasoning = max(0, min(told, context_tokens)) if type(told) is int else 0
        return (
            self.usage.input_tokens > self.worst.input_tokens + PROVIDERS_OWN_TOKENS
            or self.usage.output_tokens - reasoning > self.worst.output_tokens
        )


def input_bound(messages: list[ModelMessage], parameters: ModelRequestParameters) -> int:
    """An upper bound on input tokens: a byte-level tokenizer makes at most one token of a byte."""
    tools = [*parameters.function_tools, *parameters.output_tools]
    schemas = sum(len(f"{t.parameters_json_schema}{t.description}{t.name}".encode()) for t in tools)
    return len(ModelMessagesTypeAdapter.dump_json(messages)) + schemas + MESSAGE_OVERHEAD_TOKENS * (len(messages) + 1)
