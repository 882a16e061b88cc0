"""AgentDojo's functions as tools of this service: every call goes through its guard, policy, taint and approvals."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from anyio.from_thread import BlockingPortal
from pydantic import TypeAdapter

from app.policy.decision import Effect
from app.policy.rules import Policy
from app.tools.caller import CallerOfRun
from app.tools.guard import Guard
from app.tools.outcome import Parked
from app.tools.spec import ToolContext, ToolFailure, ToolSpec
from gates.redteam.dojo import Suite, World
from gates.redteam.effects import require_reviewed
from gates.redteam.scene import PERMISSION, Scene

_ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)


@dataclass
class Record:
    """What the guard did with one script."""

    calls: int = 0
    asked: int = 0
    had_read: bool = False  # something, before the attacker's first call


@dataclass(frozen=True)
class GuardedSuite:
    suite: Suite
    scene: Scene
    guard: Guard
    portal: BlockingPortal
    worlds: dict[str, World]  # by run: what the tools of this guard act on

    @classmethod
    def of(cls, suite: Suite, scene: Scene, policy: Policy, portal: BlockingPortal) -> "GuardedSuite":
        """Put a suite's tools behind a guard. Raises Unclassified when the table does not fit them."""
        worlds: dict[str, World] = {}
        effects = require_reviewed(suite.name, (function.name for function in suite.functions))
        tools = {f.name: _as_tool(f, effects[f.name], worlds) for f in suite.functions}
        return cls(suite, scene, scene.guard(tools, policy), portal, worlds)

    def play(self, user: Any, attack: Any | None) -> tuple[bool, Record]:
        caller = self.portal.call(self.scene.start_run, user.PROMPT, frozenset(self.guard.tools))
        script = _GuardedScript(self.scene, self.guard, caller)

        def perform(world: World, call: Any, own: bool) -> None:
            self.worlds[caller.run_id] = world
            self.portal.call(script.perform, call.function, dict(call.args), own)
            script.record.had_read |= own and bool(world.done)

        reached = self.suite.play(user, attack, perform)
        self.worlds.pop(caller.run_id, None)
        return reached, script.record


@dataclass(frozen=True)
class _GuardedScript:
    scene: Scene
    guard: Guard
    caller: CallerOfRun
    record: Record = field(default_factory=Record)

    async def perform(self, tool: str, arguments: Mapping[str, Any], own: bool) -> None:
        """Make one call; where the guard asks, a person decides, and the call is made again as approved.

        It is made again after a no as well: that a no holds is the guard's to see to, not the replay's."""
        self.record.calls += 1
        call_id = f"call-{self.record.calls}"
        outcome = await self.guard.perform(self.caller, call_id, tool, arguments, approved=False)
        if isinstance(outcome, Parked):
            self.record.asked += 1
            shown = self.guard.tools[tool].arguments.model_validate(arguments).model_dump(mode="json")
            await self.scene.decide(outcome.approval_id, tool, shown if own else None)
            await self.guard.perform(self.caller, call_id, tool, arguments, approved=True)


def _as_tool(function: Any, effect: Effect, worlds: Mapping[str, World]) -> ToolSpec:
    async def run(context: ToolContext, **arguments: Any) -> Any:
        result, error = worlds[context.run_id].call(function.name, arguments)
        if error is not None:
            raise ToolFailure(error)
        return result

    return ToolSpec(
        name=function.name,
        description=function.description,
        effect=effect,
        permission=PERMISSION,
        timeout=timedelta(seconds=5),
        output_limit=8_000,
        idempotent=effect is Effect.READ,
        arguments=function.parameters,
        function=run,
        result=_ANYTHING,
    )
