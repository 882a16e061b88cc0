"""Every tool for every role: whether the model is offered it, and what becomes of a call to it."""

import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from polyfactory.factories.pydantic_factory import ModelFactory

from app.features import FEATURES
from app.manifest import Feature
from app.tools.spec import ToolSpec
from gates.rig.people import Person
from gates.rig.provider import calls, says
from gates.rig.world import World

Outcome = Literal["effect", "question", "nothing"]
STARTER = "probe_starter"  # the rig's role that may start runs and nothing else


@dataclass(frozen=True)
class ToolCell:
    role: str
    tool: str
    offered: bool
    outcome: Outcome

    @property
    def shown(self) -> str:
        return f"{self.role} calls {self.tool}"


@dataclass(frozen=True)
class ToolSeen:
    offered: bool
    outcome: str


def deviation(cell: ToolCell, seen: ToolSeen) -> str:
    if (cell.offered, cell.outcome) == (seen.offered, seen.outcome):
        return ""
    words = {True: "offered", False: "not offered"}
    return f"declared {words[cell.offered]}, {cell.outcome}; seen {words[seen.offered]}, {seen.outcome}"


def declare(
    role: str, spec: ToolSpec, needed: str, holders: Mapping[str, Sequence[str]], rules: list[dict[str, Any]]
) -> ToolCell:
    """What config/matrix.toml and config/policy.toml say of a call in a run that has read nothing."""
    if role not in holders.get(needed, ()):
        return ToolCell(role, spec.name, offered=False, outcome="nothing")
    outcomes: dict[str, Outcome] = {"allow": "effect", "ask": "question", "deny": "nothing"}
    decision = next((str(rule["decision"]) for rule in rules if _fits(rule, role, spec)), "deny")
    return ToolCell(role, spec.name, offered=True, outcome=outcomes[decision])


def _fits(rule: dict[str, Any], role: str, spec: ToolSpec) -> bool:
    asked = {"effects": spec.effect, "tools": spec.name, "roles": role}
    return all(not rule.get(field) or value in rule[field] for field, value in asked.items())


def rules(config: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tomllib.loads((config / "policy.toml").read_text()).get("rule", [])
    return found


def observed(world: World, people: Mapping[str, Person], cells: Sequence[ToolCell]) -> list[ToolSeen]:
    """A hijacked model calls each tool, whatever it was offered; what happened, the back end tells."""
    tools = {spec.name: (feature, spec) for feature in FEATURES for spec in feature.tools}

    def see(cell: ToolCell) -> ToolSeen:
        return _call(world, people[cell.role], *tools[cell.tool])

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(see, cells))


def _call(world: World, who: Person, feature: Feature, spec: ToolSpec) -> ToolSeen:
    script = (calls(spec.name, _arguments(spec)), says("Done."))
    ran = world.run(who, *script, until=("waiting", "succeeded", "failed"), feature=feature.name)
    if not ran.script.requests:
        return ToolSeen(offered=False, outcome=f"no run: {ran.answer.status_code}")
    offered = {told["function"]["name"] for told in ran.script.requests[0].get("tools", [])}
    happened = [effect.tool for effect in world.effects_of(ran)]
    outcome = "effect" if happened == [spec.name] else f"effects {happened}" if happened else "nothing"
    waits = not happened and ran.state.get("state") == "waiting"
    return ToolSeen(offered=spec.name in offered, outcome="question" if waits else outcome)


def _arguments(spec: ToolSpec) -> dict[str, Any]:
    """Arguments that fit the tool's schema; the same ones every time."""
    factory = ModelFactory.create_factory(spec.arguments, __allow_none_optionals__=False)
    factory.seed_random(1)
    made: dict[str, Any] = factory.build().model_dump(mode="json")
    return made
