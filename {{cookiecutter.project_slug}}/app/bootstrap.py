"""The composition root: builds every part once, in order, and takes it down again."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from pydantic_ai.capabilities import AbstractCapability

from app.budgets.caps import Caps
from app.budgets.ledger import Ledger
from app.budgets.spend import Spend
from app.db.engine import Database
from app.features import FEATURES
from app.gateway.catalog import Catalog
from app.gateway.metered import CallLimits, MeteredModel
from app.gateway.providers import open_model
from app.identity.directory import Directory
from app.identity.roles import Roles
from app.manifest import Feature
from app.policy.rules import Policy
from app.runs.agents import Agents, build_agent
from app.runs.approvals import Approvals
from app.runs.engine import DurableQueue, NoQueue, RunQueue, durability, step
from app.runs.housekeeping import Housekeeping
from app.runs.intake import Intake
from app.runs.segment import SegmentLimits, Segments
from app.runs.state import RunStore
from app.runtime import Runtime
from app.settings import Settings
from app.switches.board import Board
from app.tools.egress import Egress
from app.tools.gate import ToolGate
from app.tools.guard import CallerOfRun, Guard
from app.tools.spec import ToolSpec

Capabilities = Sequence[AbstractCapability[CallerOfRun]]


@asynccontextmanager
async def open_runtime(settings: Settings, *, durable: bool = True) -> AsyncGenerator[Runtime]:
    """Build the parts of a process. With `durable=False` its runs are advanced by the caller.

    Raises StorageUnavailable, ModelUnknown, ModelUnpriced or ProviderNotInstalled before serving."""
    async with AsyncExitStack() as closing:
        db = Database(settings.database_url)
        closing.push_async_callback(db.close)
        queue: RunQueue = NoQueue()
        if durable:
            queue = DurableQueue(settings)
            closing.callback(queue.close)
        capabilities = [durability()] if durable else []
        yield await _build(settings, closing, db, queue, capabilities)


async def _build(
    settings: Settings, closing: AsyncExitStack, db: Database, queue: RunQueue, capabilities: Capabilities
) -> Runtime:
    features = {feature.name: feature for feature in FEATURES}
    directory = Directory(db, Roles.load(settings.config_dir / "roles.toml"), settings.environment)
    board = Board(db)
    policy = Policy.load(settings.config_dir / "policy.toml")
    ledger = Ledger(db, Caps.load(settings.config_dir / "budgets.toml"))
    guard = Guard(
        db=db,
        directory=directory,
        board=board,
        policy=policy,
        egress=Egress(settings.egress_allow, private_addresses=settings.environment in {"development", "test"}),
        tools=_tools(),
        approval_ttl=settings.approval_ttl,
    )
    make = AgentFactory(settings, ledger, board, [ToolGate(guard, step), *capabilities])
    agents = await make.agents(closing, features)
    store = RunStore(db, queue)
    approvals = Approvals(db, store)
    limits = SegmentLimits(
        settings.run_max_model_calls, settings.run_max_tool_calls, timedelta(seconds=settings.run_timeout_s)
    )
    return Runtime(
        settings=settings,
        features=features,
        db=db,
        directory=directory,
        board=board,
        policy=policy,
        ledger=ledger,
        spend=Spend(db),
        intake=Intake(db, ledger, board, agents, queue),
        approvals=approvals,
        segments=Segments(store, agents, limits),
        housekeeping=Housekeeping(approvals, ledger, store, queue),
    )


def _tools() -> dict[str, ToolSpec]:
    tools: dict[str, ToolSpec] = {}
    for feature in FEATURES:
        for tool in feature.tools:
            if tools.setdefault(tool.name, tool) is not tool:
                raise ValueError(f"two features declare a tool named {tool.name}; rename one")
    return tools


@dataclass(frozen=True)
class AgentFactory:
    """Builds each feature's agent on a metered model and behind the guard."""

    settings: Settings
    ledger: Ledger
    board: Board
    capabilities: Capabilities

    async def agents(self, closing: AsyncExitStack, features: Mapping[str, Feature]) -> Agents:
        settings = self.settings
        catalog = Catalog.load(settings.config_dir / "models.toml", settings.model_provider)
        limits = CallLimits(settings.model_max_tokens, settings.model_timeout)
        key = settings.model_api_key.get_secret_value() if settings.model_api_key else None
        built, names = {}, {}
        for name, feature in features.items():
            tier = feature.agent.tier
            names[name] = catalog.entry(tier).model
            opened = open_model(settings.model_provider, names[name], api_key=key, base_url=settings.model_base_url)
            model = MeteredModel(
                await closing.enter_async_context(opened),
                tier=tier,
                catalog=catalog,
                ledger=self.ledger,
                board=self.board,
                limits=limits,
            )
            built[name] = build_agent(feature.agent, model, self.capabilities)
        return Agents({name: feature.agent for name, feature in features.items()}, built, names)
