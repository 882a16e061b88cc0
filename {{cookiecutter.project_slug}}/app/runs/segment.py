"""One segment of a run: from the start, or from the decisions, to the answer or the next questions.

Gate: validation.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import anyio
import structlog
from pydantic import BaseModel
from pydantic_ai import DeferredToolRequests, DeferredToolResults, ToolApproved, ToolDenied, UsageLimits
from pydantic_ai.exceptions import UnexpectedModelBehavior, UsageLimitExceeded
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelResponse, ToolCallPart
from pydantic_ai.usage import RunUsage

from app.budgets.caps import Payer
from app.errors import AppError, ModelOutputInvalid, RunLimitExceeded, Unexpected
from app.gateway.metered import CallContext, calling
from app.runs.agents import Agents
from app.runs.engine import firm_step
from app.runs.prompt import user_message
from app.runs.state import RunStore
from app.tools.guard import CallerOfRun

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class SegmentLimits:
    model_calls: int
    tool_calls: int
    duration: timedelta


@dataclass(frozen=True)
class Segments:
    store: RunStore
    agents: Agents
    limits: SegmentLimits

    async def advance(self, run_id: str, segment: int) -> str:
        """Advance a run by one segment and return its new state.

        Never raises for a failure of the work itself: that is an outcome of the run."""
        run = await firm_step("load", lambda: self.store.begin_segment(run_id, segment))
        if run is None:
            return "superseded"
        try:
            with anyio.fail_after(self.limits.duration.total_seconds()):
                output, history = await self._converse(run)
        except Exception as error:  # noqa: BLE001 - the failure of a task is its outcome
            failure = _failure(error, run_id)
            return str(
                await firm_step("fail", lambda: self.store.fail(run_id, segment, failure.row.code, failure.detail))
            )
        if isinstance(output, DeferredToolRequests):
            return str(await firm_step("wait", lambda: self.store.wait(run_id, segment, history)))
        answer = output.model_dump(mode="json")
        return str(await firm_step("succeed", lambda: self.store.succeed(run_id, segment, history, answer)))

    async def _converse(self, run: dict[str, Any]) -> tuple[BaseModel | DeferredToolRequests, str]:
        caller = CallerOfRun(
            run_id=run["id"],
            tenant_id=run["tenant_id"],
            member_id=run["member_id"],
            feature=run["feature"],
            granted=frozenset(run["granted"]),
            key_id=run["key_id"],
            reads_documents=bool(run["documents"]),
        )
        payer = Payer(caller.tenant_id, caller.member_id, caller.run_id)
        token = calling.set(CallContext(payer, caller.feature, run["prompt_version"]))
        limits = UsageLimits(request_limit=self.limits.model_calls, tool_calls_limit=self.limits.tool_calls)
        try:
            result = await self.agents.built[caller.feature].run(
                **_start_or_resume(run), deps=caller, usage_limits=limits
            )
        finally:
            calling.reset(token)
        return result.output, result.all_messages_json().decode()


def _start_or_resume(run: dict[str, Any]) -> dict[str, Any]:
    if run["history"] is None:
        return {"user_prompt": user_message(run["task"], run["documents"])}
    history = ModelMessagesTypeAdapter.validate_json(run["history"])
    open_calls = _unanswered(history)
    answers: dict[str, bool | ToolApproved | ToolDenied] = {
        call: True if refusal is None else ToolDenied(refusal)
        for call, refusal in run["decisions"].items()
        if call in open_calls
    }
    return {
        "message_history": history,
        "deferred_tool_results": DeferredToolResults(approvals=answers),
        "usage": _used_before(history),
    }


def _unanswered(history: list[ModelMessage]) -> set[str]:
    called = {call.tool_call_id for call in _calls(history)}
    requests = [message for message in history if not isinstance(message, ModelResponse)]
    return called - {getattr(part, "tool_call_id", "") for message in requests for part in message.parts}


def _used_before(history: list[ModelMessage]) -> RunUsage:
    """What earlier segments used up: waiting for a person does not refill a run's limits."""
    requests = sum(isinstance(message, ModelResponse) for message in history)
    return RunUsage(requests=requests, tool_calls=len(_calls(history)))


def _calls(history: list[ModelMessage]) -> list[ToolCallPart[Any]]:
    responses = [message for message in history if isinstance(message, ModelResponse)]
    return [part for message in responses for part in message.parts if isinstance(part, ToolCallPart)]


def _failure(error: Exception, run_id: str) -> AppError:
    match error:
        case AppError():
            return error
        case TimeoutError() | UsageLimitExceeded():
            return RunLimitExceeded()
        case UnexpectedModelBehavior():
            return ModelOutputInvalid()
    log.error("run.crashed", run_id=run_id, exc_info=error)
    return Unexpected()
