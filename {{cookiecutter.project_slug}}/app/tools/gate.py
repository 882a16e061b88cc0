"""The guard as seen by the agent framework: a capability every agent is built with.

The framework is given each tool's schema and a body that only raises. Without this capability an
agent can still name tools, and none of them does anything. Gate: security.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic_ai import ApprovalRequired, ModelRetry, RunContext, SkipToolExecution, Tool
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.capabilities.abstract import ValidatedToolArgs, WrapToolExecuteHandler
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.tools import ToolDefinition

from app.tools.guard import CallerOfRun, Guard
from app.tools.outcome import Invalid, Parked, Performed, Refused, from_json, to_json
from app.tools.spec import ToolSpec

_PLAIN = re.compile(r"[\x21-\x7e]{1,100}")
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


def plain_id(call_id: str) -> str:
    """The provider's id of a call, or its digest where a database could not hold the id itself."""
    return call_id if _PLAIN.fullmatch(call_id) else hashlib.sha256(call_id.encode("utf-8", "replace")).hexdigest()


@dataclass
class ToolGate(AbstractCapability[CallerOfRun]):
    guard: Guard
    step: Step  # runs a named piece of work once and remembers its result across restarts

    async def prepare_tools(
        self, ctx: RunContext[CallerOfRun], tool_defs: list[ToolDefinition]
    ) -> list[ToolDefinition]:
        """Offer only what the caller may use; the guard decides again when one is called."""
        tools = self.guard.tools
        return [d for d in tool_defs if d.name in tools and tools[d.name].permission in ctx.deps.granted]

    async def wrap_tool_execute(
        self,
        ctx: RunContext[CallerOfRun],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,  # noqa: ARG002 - the framework's signature
        args: ValidatedToolArgs,
        handler: WrapToolExecuteHandler,  # noqa: ARG002 - never called: the guard runs the tool
    ) -> Any:
        async def perform() -> dict[str, Any]:
            approved = ctx.tool_call_approved
            return to_json(
                await self.guard.perform(ctx.deps, plain_id(call.tool_call_id), call.tool_name, args, approved=approved)
            )

        match from_json(await self.step(f"tool:{call.tool_name}", perform)):
            case Performed(value):
                return value
            case Refused(reason):
                raise SkipToolExecution(reason)
            case Invalid(problems):
                raise ModelRetry("The arguments are not valid. " + "; ".join(problems))
            case Parked(approval_id):
                raise ApprovalRequired(metadata={"approval_id": approval_id})
