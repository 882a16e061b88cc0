"""The guard as seen by the agent framework: a capability every agent is built with.

The framework is given each tool's schema and a body that only raises. Without this capability an
agent can still name tools, and none of them does anything. Gate: security, cost.
"""

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_ai import ApprovalRequired, ModelRetry, RunContext, SkipToolExecution, Tool
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.capabilities.abstract import ValidatedToolArgs, WrapToolExecuteHandler
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart
from pydantic_ai.tools import ToolDefinition

from app.errors import RunLimitExceeded
from app.tools.call_identity import calls_of, distinct, record_id
from app.tools.caller import CallerOfRun
from app.tools.guard import Guard
from app.tools.outcome import Invalid, Parked, Performed, Refused, from_json, to_json
from app.tools.spec import ToolSpec

MOST_ALIKE = 3  # calls in a row with the same arguments; the next one ends the run
MOST_ROUNDS = 3  # of two or three calls that follow each other again and again
Step = Callable[[str, Callable[[], Awaitable[dict[str, Any]]]], Awaitable[dict[str, Any]]]


def offered(specs: Iterable[ToolSpec]) -> list[Tool[CallerOfRun]]:
    """The tools as the model sees them: name, description and schema, with no way to run."""

    async def only_the_guard_runs_tools(**_arguments: Any) -> None:
        raise RuntimeError("tools run only through app.tools.guard")

    return [
        Tool[CallerOfRun].from_schema(
            only_the_guard_runs_tools,
            name=spec.name,
            description=spec.description,
            json_schema=spec.arguments.model_json_schema(),
        )
        for spec in specs
    ]


@dataclass
class ToolGate(AbstractCapability[CallerOfRun]):
    guard: Guard
    step: Step  # runs a named piece of work once and remembers its result across restarts
    require_running: Callable[[str], Awaitable[None]]  # raises RunCancelled for a run that has ended

    async def prepare_tools(
        self, ctx: RunContext[CallerOfRun], tool_defs: list[ToolDefinition]
    ) -> list[ToolDefinition]:
        """Offer only what the caller may use; the guard decides again when one is called."""
        tools = self.guard.tools
        mine, granted = ctx.deps.tools, ctx.deps.granted
        return [d for d in tool_defs if d.name in mine and d.name in tools and tools[d.name].permission in granted]

    async def after_model_request(
        self,
        ctx: RunContext[CallerOfRun],
        *,
        request_context: Any,  # noqa: ARG002 - the framework's signature
        response: ModelResponse,
    ) -> ModelResponse:
        """Tell the calls of the answer apart before anything goes by their ids."""
        return distinct(ctx.messages, response)

    async def wrap_tool_execute(
        self,
        ctx: RunContext[CallerOfRun],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,  # noqa: ARG002 - the framework's signature
        args: ValidatedToolArgs,
        handler: WrapToolExecuteHandler,  # noqa: ARG002 - never called: the guard runs the tool
    ) -> Any:
        if goes_in_circles(_made(ctx.messages, call)):
            raise RunLimitExceeded("This task repeats the same calls and gets no further.")
        most = ctx.usage_limits.tool_calls_limit if ctx.usage_limits else None
        if most is not None and ctx.usage.tool_calls >= most:
            raise RunLimitExceeded("This task used up its tool calls.")
        call_id = record_id(ctx.deps.call_prefix, call.tool_call_id)

        async def perform() -> dict[str, Any]:
            await self.require_running(ctx.deps.run_id)
            approved = ctx.tool_call_approved
            return to_json(await self.guard.perform(ctx.deps, call_id, call.tool_name, args, approved=approved))

        match from_json(await self.step(f"tool:{call.tool_name}", perform)):
            case Performed(value):
                ctx.usage.tool_calls += 1  # the framework counts only calls that it runs itself, and it runs none
                return value
            case Refused(reason):
                raise SkipToolExecution(reason)
            case Invalid(problems):
                raise ModelRetry("The arguments are not valid. " + "; ".join(problems))
            case Parked(approval_id):
                raise ApprovalRequired(metadata={"approval_id": approval_id})


def _made(messages: Sequence[ModelMessage], this: ToolCallPart) -> list[tuple[str, str]]:
    """Every call of the conversation up to this one, as (tool, arguments)."""
    made: list[tuple[str, str]] = []
    for part in calls_of(messages):
        made.append((part.tool_name, json.dumps(_arguments(part), sort_keys=True, default=str)))
        if part.tool_call_id == this.tool_call_id:
            break
    return made


def _arguments(part: ToolCallPart) -> Any:
    try:
        return part.args_as_dict()
    except ValueError:
        return part.args


def goes_in_circles(calls: Sequence[tuple[str, str]]) -> bool:
    """Whether the newest calls only repeat what came before: one call over and over, or two or three in turns."""
    return _repeats(calls, 1, MOST_ALIKE + 1) or any(_repeats(calls, period, MOST_ROUNDS) for period in (2, 3))


def _repeats(calls: Sequence[tuple[str, str]], period: int, rounds: int) -> bool:
    newest = list(calls[-period * rounds :])
    return len(newest) == period * rounds and newest == newest[:period] * rounds
