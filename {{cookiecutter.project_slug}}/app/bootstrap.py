"""The composition root: builds every part once, in order, and takes it down again."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

from app.budgets.caps import Caps
from app.budgets.ledger import Ledger
from app.budgets.spend import Spend
from app.db.engine import Database
from app.features import FEATURES
from app.gateway.catalog import Catalog
from app.gateway.metered import CallLimits, MeteredModel
from app.gateway.providers import build_model
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
from app.tools.guard import Guard


@asynccontextmanager
async def open_runtime(settings: Settings, *, durable: bool = True) -> AsyncGenerator[Runtime]:
    """Build the parts of a process. With `durable=False` its runs are advanced by the caller.

    Raises StorageUnavailable, ModelUnknown, ModelUnpriced or ProviderNotInstalled before serving."""
    db = Database(settings.database_url)
    queue: RunQueue = DurableQueue(settings) if durable else NoQueue()
    try:
        yield _build(settings, db, queue)
    finally:
        if isinstance(queue, DurableQueue):
            queue.close()
        await db.close()


def _build(settings: Settings, db: Database, queue: RunQueue) -> Runtime:
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
        tools={tool.name: tool for feature in FEATURES for tool in feature.tools},
        approval_ttl=settings.approval_ttl,
    )
    agents = _agents(settings, features, ToolGate(guard, step), ledger, board)
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
        housekeeping=Housekeeping(approvals, ledger),
    )


def _agents(settings: Settings, features: dict[str, Feature], gate: ToolGate, ledger: Ledger, board: Board) -> Agents:
    catalog = Catalog.load(settings.config_dir / "models.toml", settings.model_provider)
    limits = CallLimits(settings.model_max_tokens, settings.model_timeout)
    key = settings.model_api_key.get_secret_value() if settings.model_api_key else None
    built, names = {}, {}
    for name, feature in features.items():
        entry = catalog.entry(feature.agent.tier)
        names[name] = entry.model
        provider = build_model(settings.model_provider, entry.model, api_key=key, base_url=settings.model_base_url)
        model = MeteredModel(
            provider, tier=feature.agent.tier, catalog=catalog, ledger=ledger, board=board, limits=limits
        )
        built[name] = build_agent(feature.agent, model, gate, durability())
    return Agents({name: feature.agent for name, feature in features.items()}, built, names)
