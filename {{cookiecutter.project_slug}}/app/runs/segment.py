"""One segment of a run: from the start, or from the decisions, to the answer or the next questions.

Gate: security, validation, errors, cost, monitoring.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import anyio
import structlog
from pydantic import BaseModel
from pydantic_ai import DeferredToolRequests, DeferredToolResults, ToolApproved, ToolDenied
from pydantic_ai.exceptions import UnexpectedModelBehavior, UsageLimitExceeded
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelResponse
from pydantic_ai.usage import RunUsage

from app.budgets.caps import Payer
from app.content.links import Links
from app.draining import checkpoint, is_interrupted
from app.errors import AppError, ModelOutputInvalid, RunLimitExceeded, StoreAway, Unexpected
from app.gateway.metered import CallContext, charged
from app.runs.agents import Agents
from app.runs.conversation import Conversation, conducted
from app.runs.engine import firm_step
from app.runs.limits import RunLimits
from app.runs.prompt import user_message
from app.runs.state import RunStore
from app.switches.board import Board
from app.tools.call_identity import calls_of, plain_id
from app.tools.caller import CallerOfRun

log = structlog.get_logger(__name__)
LOOK_EVERY = timedelta(seconds=0.5)  # how soon a cancelled run, or a thrown switch, stops what is under way
MOST_STARTS = 5  # of one segment: work that ends its process so often is set aside
SUSPECT = 2  # starts after which a segment runs alone, so that it takes no other work with it


@dataclass(frozen=True)
class Segments:
    store: RunStore
    agents: Agents
    limits: RunLimits
    board: Board
    links: Links
    alone: anyio.Lock = field(default_factory=anyio.Lock)

    async def advance(self, run_id: str, segment: int) -> str:
        """Advance a run by one segment and return its new state.

        Never raises for a failure of the work itself: that is an outcome of the run."""
        # Asked and counted outside the engine's steps: a replay after a crash must count again.
        starts = await self.store.starts(run_id, segment)
        if starts >= MOST_STARTS:
            log.error("run.dead_lettered", run_id=run_id, segment=segment, starts=starts)
            await self.store.abandon(run_id, segment)
            return "failed"
        if starts < SUSPECT:
            return await self._started(run_id, segment)
        async with self.alone:
            return await self._started(run_id, segment)

    async def _started(self, run_id: str, segment: int) -> str:
        await checkpoint()
        await self.store.count_start(run_id, segment)
        try:
            return await self._carried_on(run_id, segment)
        except asyncio.CancelledError:
            if is_interrupted():
                try:
                    await self.store.uncount_start(run_id, segment)
                except Exception:  # one start too many is counted; the segment must be handed back all the same
                    log.exception("run.start_not_uncounted", run_id=run_id)
            raise

    async def _carried_on(self, run_id: str, segment: int) -> str:
        run = await firm_step("load", lambda: self.store.begin_segment(run_id, segment))
        if run is None:
            return "superseded"
        began, usage = time.monotonic(), _counted(run)
        try:
            output, history = await self._watched(run, usage)
            answer = None if isinstance(output, DeferredToolRequests) else self._answer(output)
        except Exception as error:  # noqa: BLE001 - the failure of a task is its outcome
            failure = _failure(error, run_id)
            return str(
                await firm_step("fail", lambda: self.store.fail(run_id, segment, failure.row.code, failure.detail))
            )
        if answer is None:
            used = _used(run, usage, time.monotonic() - began)
            return str(await firm_step("wait", lambda: self.store.wait(run_id, segment, history, used)))
        return str(await firm_step("succeed", lambda: self.store.succeed(run_id, segment, history, answer)))

    def _answer(self, output: BaseModel) -> Any:
        """The answer as data, pointing nowhere it may not. Raises ModelOutputInvalid for one beyond all reason."""
        try:
            return self.links.sanitised(output.model_dump(mode="json"))
        except RecursionError:
            raise ModelOutputInvalid from None

    async def _watched(self, run: dict[str, Any], usage: RunUsage) -> tuple[BaseModel | DeferredToolRequests, str]:
        """The conversation, stopped from outside when its time is up, it is cancelled or a switch is thrown."""
        limits = self.limits.narrowed(run["limits"])
        left = limits.duration - timedelta(milliseconds=run["used"].get("ms", 0))
        stopped: list[Exception] = []
        answer: list[tuple[BaseModel | DeferredToolRequests, str]] = []

        async def look(scope: anyio.CancelScope) -> None:
            while not stopped:
                await anyio.sleep(LOOK_EVERY.total_seconds())
                stopped.extend(await self._reasons_to_stop(run))
            scope.cancel()

        with anyio.move_on_after(max(0.0, left.total_seconds())) as in_time:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(look, tasks.cancel_scope)
                try:
                    answer.append(await self._converse(run, usage, limits))
                except Exception as error:  # noqa: BLE001 - handed on below, out of the task group's own wrapping
                    stopped.append(error)
                tasks.cancel_scope.cancel()
        if answer:
            return answer[0]
        if in_time.cancelled_caught and not stopped:
            raise RunLimitExceeded(f"This task worked for longer than {int(limits.duration.total_seconds())} seconds.")
        raise stopped[0]

    async def _reasons_to_stop(self, run: dict[str, Any]) -> list[Exception]:
        names = ("runs", f"tenant:{run['tenant_id']}", f"feature:{run['feature']}")
        checks: tuple[Callable[[], Awaitable[None]], ...] = (
            lambda: self.store.require_running(run["id"]),
            lambda: self.board.require_clear(*names),
        )
        found: list[Exception] = []
        for check in checks:
            try:
                await check()
            except StoreAway:  # no reason to stop by itself: what needs the store fails, or waits for it
                log.warning("run.look_failed", run_id=run["id"])
            except AppError as error:
                found.append(error)
            except Exception:
                log.exception("run.look_failed", run_id=run["id"])
        return found

    async def _converse(
        self, run: dict[str, Any], usage: RunUsage, limits: RunLimits
    ) -> tuple[BaseModel | DeferredToolRequests, str]:
        caller = CallerOfRun(
            run_id=run["id"],
            tenant_id=run["tenant_id"],
            member_id=run["member_id"],
            feature=run["feature"],
            granted=frozenset(run["granted"]),
            key_id=run["key_id"],
            issuer_chain=run.get("issuer_chain"),  # a segment from before an update has none
            reads_documents=bool(run["documents"]),
            tools=self.agents.tools[run["feature"]],
        )
        payer = Payer(caller.tenant_id, caller.member_id, caller.run_id)
        with (
            charged(CallContext(payer, caller.feature, run["prompt_version"])),
            conducted(Conversation(usage, limits.usage)),
        ):
            result = await self.agents.built[caller.feature].run(
                **_start_or_resume(run), deps=caller, usage=usage, usage_limits=limits.usage
            )
        return result.output, result.all_messages_json().decode()


def _start_or_resume(run: dict[str, Any]) -> dict[str, Any]:
    if run["history"] is None:
        return {"user_prompt": user_message(run["task"], run["documents"])}
    history = ModelMessagesTypeAdapter.validate_json(run["history"])
    decisions = run["decisions"]  # by the ids of the records
    answers: dict[str, bool | ToolApproved | ToolDenied] = {
        call: True if decisions[plain_id(call)] is None else ToolDenied(decisions[plain_id(call)])
        for call in _unanswered(history)
        if plain_id(call) in decisions
    }
    return {
        "message_history": history,
        "deferred_tool_results": DeferredToolResults(approvals=answers),
    }


def _unanswered(history: list[ModelMessage]) -> set[str]:
    called = {call.tool_call_id for call in calls_of(history)}
    requests = [message for message in history if not isinstance(message, ModelResponse)]
    return called - {getattr(part, "tool_call_id", "") for message in requests for part in message.parts}


def _counted(run: dict[str, Any]) -> RunUsage:
    """What earlier segments used up: waiting for a person does not refill a run's limits."""
    return RunUsage(requests=run["used"].get("model_calls", 0), tool_calls=run["used"].get("tool_calls", 0))


def _used(run: dict[str, Any], usage: RunUsage, seconds: float) -> dict[str, int]:
    worked = run["used"].get("ms", 0) + int(seconds * 1000)
    return {"ms": worked, "model_calls": usage.requests, "tool_calls": usage.tool_calls}


def _failure(error: Exception, run_id: str) -> AppError:
    match error:
        case AppError():
            return error
        case UsageLimitExceeded():
            what = "tool calls" if "tool_calls_limit" in str(error) else "model calls"
            return RunLimitExceeded(f"This task used up its {what}.")
        case UnexpectedModelBehavior():
            return ModelOutputInvalid()
    log.error("run.crashed", run_id=run_id, exc_info=error)
    return Unexpected()
