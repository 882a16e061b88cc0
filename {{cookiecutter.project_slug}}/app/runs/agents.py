"""An agent as its feature declares it, and the agent built from that with the guard attached. Gate: validation."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel
from pydantic_ai import Agent, DeferredToolRequests
from pydantic_ai.capabilities import AbstractCapability

from app.gateway.ladder import LadderModel
from app.tools.caller import CallerOfRun
from app.tools.gate import offered
from app.tools.spec import ToolSpec


@dataclass(frozen=True)
class AgentSpec:
    """What a feature decides about its agent. Models, limits, policy and metering are not its business."""

    name: str
    instructions: str
    output_type: type[BaseModel]
    tools: tuple[ToolSpec, ...] = ()
    tier: str = "standard"
    servers: tuple[str, ...] = ()  # tool servers of config/tools.toml whose pinned tools it may use
    delegates: tuple["AgentSpec", ...] = ()  # agents it may ask; they read and do not act
    purpose: str = ""  # what a delegate is good for: the agent that may ask it reads this

    @property
    def prompt_version(self) -> str:
        """Changes with every character of the instructions; recorded on each run and model call."""
        return hashlib.sha256(self.instructions.encode()).hexdigest()[:16]


BuiltAgent = Agent[CallerOfRun, BaseModel | DeferredToolRequests]


@dataclass(frozen=True)
class Agents:
    """The agents of a process, by feature name, and the tools each may call."""

    specs: Mapping[str, AgentSpec]
    built: Mapping[str, BuiltAgent]
    tools: Mapping[str, frozenset[str]]
    model_names: Mapping[str, str] = field(default_factory=dict)


def build_agent(
    spec: AgentSpec,
    tools: Sequence[ToolSpec],
    model: LadderModel,
    capabilities: Sequence[AbstractCapability[CallerOfRun]],
) -> BuiltAgent:
    """Give the declared agent its metered models; its tools run only through a `ToolGate` among the capabilities."""
    return Agent[CallerOfRun, BaseModel | DeferredToolRequests](
        model,
        name=spec.name,
        deps_type=CallerOfRun,
        instructions=spec.instructions,
        output_type=[spec.output_type, DeferredToolRequests],
        tools=offered(tools),
        capabilities=capabilities,
        retries=2,
    )
