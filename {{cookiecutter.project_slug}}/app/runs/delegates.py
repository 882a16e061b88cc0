"""An agent that another agent may ask: it reads on behalf of the same run, and cannot act.

A delegate has the authority of who asked it, narrowed to its own read tools, and spends from the same run's limits and
budget. It cannot ask a person, so it has no tool that would need one; what it finds goes back as data that taints the
run like any tool's result (OWASP ASI03, ASI07). Gate: access, cost.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter
from pydantic_ai.exceptions import UnexpectedModelBehavior, UsageLimitExceeded

from app.errors import ModelOutputInvalid, RunLimitExceeded
from app.gateway.metered import calling, charged
from app.policy.decision import Effect
from app.runs.agents import AgentSpec, BuiltAgent
from app.runs.conversation import current
from app.runs.prompt import user_message
from app.tools.spec import ToolContext, ToolFailure, ToolSpec

MAX_DEPTH = 2  # a delegate may have delegates; those have none
TIMEOUT = timedelta(seconds=60)


class Question(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    task: Annotated[str, StringConstraints(min_length=1, max_length=4_000)]


@dataclass(frozen=True)
class Delegate:
    """The function behind `ask_<name>`: one conversation of the delegate within the tool call that asked for it."""

    spec: AgentSpec
    tools: Sequence[ToolSpec]
    agent: BuiltAgent

    async def __call__(self, context: ToolContext, task: str) -> Any:
        if context.caller.depth >= MAX_DEPTH:
            raise ToolFailure(f"delegates go no deeper than {MAX_DEPTH}")
        narrowed = context.caller.delegate(
            frozenset(tool.name for tool in self.tools),
            frozenset(tool.permission for tool in self.tools),
            context.call_id,
        )
        shared = current.get()
        try:
            with charged(replace(calling.get(), prompt_version=self.spec.prompt_version)):
                result = await self.agent.run(
                    user_message(task, ()), deps=narrowed, usage=shared.usage, usage_limits=shared.limits
                )
        except UsageLimitExceeded:
            raise RunLimitExceeded("This task used up its limits while a delegate worked for it.") from None
        except (UnexpectedModelBehavior, ModelOutputInvalid):
            raise ToolFailure("the delegate's answer was not usable") from None
        if not isinstance(result.output, BaseModel):
            raise ToolFailure("a delegate cannot wait for a person")
        return result.output.model_dump(mode="json")


def ask(spec: AgentSpec, tools: Sequence[ToolSpec], agent: BuiltAgent) -> ToolSpec:
    """The tool with which an agent asks this delegate."""
    return ToolSpec(
        name=f"ask_{spec.name}",
        description=spec.purpose or f"Ask {spec.name}, who can look things up and cannot change anything.",
        effect=Effect.READ,
        permission="runs:write",  # who may start runs may have them ask
        timeout=TIMEOUT,
        output_limit=8_000,
        idempotent=True,
        arguments=Question,
        function=Delegate(spec, tools, agent),
        result=TypeAdapter(Any),
    )


def require_reading(spec: AgentSpec, tools: Sequence[ToolSpec], depth: int) -> None:
    """Raise TypeError for a delegate that could act, because nobody would be asked, or that is too deep."""
    acting = [tool.name for tool in tools if tool.effect is not Effect.READ]
    if acting:
        raise TypeError(f"delegate {spec.name}: {', '.join(acting)} is no read; only the run's own agent may act")
    if depth > MAX_DEPTH:
        raise TypeError(f"delegate {spec.name}: delegates go no deeper than {MAX_DEPTH}")
