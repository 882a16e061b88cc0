"""The composition root: builds every part once, in order, and takes it down again."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import urlsplit, urlunsplit

from pydantic_ai.capabilities import AbstractCapability

from app.budgets.caps import Caps
from app.budgets.ledger import Ledger
from app.budgets.outlook import Outlook
from app.budgets.spend import Spend
from app.content.links import Links
from app.db.database_environment import require_environment
from app.db.engine import Database
from app.db.responsiveness import Responsiveness
from app.features import FEATURES
from app.gateway.allowance import CallLimits
from app.gateway.breaker import Breaker, Health
from app.gateway.cache import Cache
from app.gateway.catalog import Catalog
from app.gateway.chat import Chat
from app.gateway.embeddings import Embeddings
from app.gateway.ladder import Ladder, LadderModel, Rung
from app.gateway.metered import MeteredModel
from app.gateway.providers import open_chat, open_model
from app.gateway.routing import AUTO, Routing
from app.identity.directory import Directory
from app.identity.elevations import Elevations
from app.identity.key_claims import KeyClaims
from app.identity.keys import Keys
from app.identity.members import Members
from app.identity.oidc import KeySet, Verifier
from app.identity.roles import Roles
from app.identity.sign_in import SignIn
from app.manifest import Feature
from app.policy.rules import Policy
from app.runs.agents import Agents, AgentSpec, BuiltAgent, build_agent
from app.runs.approvals import Approvals
from app.runs.delegates import ask, require_reading
from app.runs.engine import DurableQueue, NoQueue, RunQueue, at_once, durability, step
from app.runs.housekeeping import Housekeeping
from app.runs.intake import Intake
from app.runs.limits import RunLimits
from app.runs.retention import Retention
from app.runs.retention_periods import RetentionPeriods
from app.runs.segment import Segments
from app.runs.state import RunStore
from app.runtime import Runtime
from app.settings import Settings
from app.switches.board import Board
from app.tools.caller import CallerOfRun
from app.tools.egress import Egress, EgressUncertain
from app.tools.gate import ToolGate
from app.tools.guard import Guard
from app.tools.servers import ToolServers
from app.tools.spec import ToolSpec
from app.tools.unknown import UnknownCalls

PROVIDER_DEADLINE = timedelta(seconds=5)
Capabilities = Sequence[AbstractCapability[CallerOfRun]]


@asynccontextmanager
async def open_runtime(settings: Settings, *, durable: bool = True) -> AsyncGenerator[Runtime]:
    """Build the parts of a process. With `durable=False` its runs are advanced by the caller.

    Raises StorageUnavailable, WrongEnvironment, ModelUnknown, ModelUnpriced or ProviderNotInstalled before serving."""
    async with AsyncExitStack() as closing:
        db = Database(settings.database_url, settings.session_database_url, patience=settings.database_timeout)
        closing.push_async_callback(db.close)
        await db.at_once(lambda connection: require_environment(connection, settings.environment), writes=False)
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
    roles = Roles.load(settings.config_dir / "roles.toml")
    access_tokens, sign_in = _identity_provider(settings)
    directory = Directory(db, roles, access_tokens)
    board = Board(db)
    policy = Policy.load(settings.config_dir / "policy.toml")
    ledger = Ledger(db, Caps.load(settings.config_dir / "budgets.toml"))
    egress = Egress(settings.egress_allow, private_addresses=settings.environment in {"development", "test"})
    servers = ToolServers.load(settings.config_dir, settings.tool_secrets)
    tools: dict[str, ToolSpec] = {}
    guard = Guard(
        db=db, directory=directory, board=board, policy=policy, egress=egress, tools=tools,
        approval_ttl=settings.approval_ttl,
    )  # fmt: skip
    store = RunStore(db, queue)
    catalog = Catalog.load(settings.config_dir / "models.toml", settings.model_provider)
    make = AgentFactory(settings, closing, catalog, ledger, board, guard, store, servers, capabilities, tools)
    await make.open_models()
    agents = await make.agents(features)
    chat = await make.chat()
    approvals = Approvals(db, store, settings.require_distinct_key_holders)
    unknown = UnknownCalls(db)
    keys = Keys(db, roles, settings.environment)
    limits = RunLimits.of(settings, ledger.caps.run_micro)
    retention = Retention(db, RetentionPeriods.load(db, settings.config_dir / "retention.toml"), queue)
    return Runtime(
        settings=settings,
        features=features,
        db=db,
        directory=directory,
        members=Members(db, roles, settings.oidc_issuer or ""),
        keys=keys,
        key_claims=KeyClaims(db, keys),
        elevations=Elevations(db, roles),
        board=board,
        policy=policy,
        ledger=ledger,
        chat=chat,
        embeddings=Embeddings.beside(chat, ledger, settings.model_timeout),
        spend=Spend(db),
        egress=egress,
        sign_in=sign_in,
        guard=guard,
        servers=servers,
        intake=Intake(db, ledger, board, agents, queue, limits),
        store=store,
        approvals=approvals,
        unknown=unknown,
        segments=Segments(store, agents, limits, board, Links(settings.answer_links_allow)),
        responsiveness=Responsiveness(db),
        retention=retention,
        housekeeping=Housekeeping(
            approvals, unknown, ledger, chat.cache, store, queue, Outlook(db, ledger.caps), retention
        ),
    )


def _identity_provider(settings: Settings) -> tuple[Verifier | None, SignIn | None]:
    """What checks a provider's access tokens, and what signs people in there; only what settings name is reached."""
    if settings.oidc_issuer is None or settings.oidc_jwks_url is None or settings.oidc_audience is None:
        return None, None
    reached = [url for url in (settings.oidc_jwks_url, settings.oidc_token_url) if url]
    origins = [urlunsplit((*urlsplit(url)[:2], "", "", "")) for url in reached]
    egress = Egress(origins, private_addresses=True)  # an operator names them: a provider may be in the same network

    async def fetch(url: str) -> str:
        answer = await egress.get(url, deadline=PROVIDER_DEADLINE)
        if answer.status != 200:
            raise EgressUncertain(f"status {answer.status}")
        return answer.body

    async def post(url: str, form: Mapping[str, str]) -> tuple[int, str]:
        answer = await egress.post_form(url, form, deadline=PROVIDER_DEADLINE)
        return answer.status, answer.body

    keys = KeySet(settings.oidc_jwks_url, fetch)
    issuer, algorithms = settings.oidc_issuer, settings.oidc_algorithms
    access = Verifier(issuer, settings.oidc_audience, algorithms, (settings.oidc_token_type.lower(),), keys)
    if settings.oidc_client_id is None or not settings.oidc_authorization_url or not settings.oidc_token_url:
        return access, None
    secret = settings.oidc_client_secret.get_secret_value() if settings.oidc_client_secret else None
    return access, SignIn(
        client_id=settings.oidc_client_id,
        client_secret=secret,
        authorization_url=settings.oidc_authorization_url,
        token_url=settings.oidc_token_url,
        redirect_url=f"{settings.public_url.rstrip('/')}/console/signed-in",
        verifier=Verifier(issuer, settings.oidc_client_id, algorithms, ("jwt", ""), keys),
        post=post,
    )


@dataclass(frozen=True)
class AgentFactory:
    """Builds each feature's agent, and its delegates, on metered models and behind the guard."""

    settings: Settings
    closing: AsyncExitStack
    catalog: Catalog
    ledger: Ledger
    board: Board
    guard: Guard
    store: RunStore
    servers: ToolServers
    capabilities: Capabilities
    tools: dict[str, ToolSpec]  # every tool of the process by name: what the guard knows
    health: dict[str, Health] = field(default_factory=dict)  # of each model
    ladders: dict[str, Ladder] = field(default_factory=dict)  # by tier

    async def agents(self, features: Mapping[str, Feature]) -> Agents:
        built, names, tools = {}, {}, {}
        for name, feature in features.items():
            mine = await self._tools_of(feature.agent, depth=0)
            names[name] = self._model_name(feature.agent.tier)
            gate = ToolGate(self.guard, step, self.store.require_running)
            built[name] = await self._built(feature.agent, mine, [gate, *self.capabilities])
            tools[name] = frozenset(tool.name for tool in mine)
        return Agents({name: feature.agent for name, feature in features.items()}, built, tools, names)

    async def _tools_of(self, spec: AgentSpec, depth: int) -> list[ToolSpec]:
        """The tools of an agent: its own, those of its tool servers, and one for each delegate it may ask."""
        mine = [*spec.tools, *(tool for server in spec.servers for tool in self.servers.specs(server))]
        for delegate in spec.delegates:
            its_tools = await self._tools_of(delegate, depth + 1)
            require_reading(delegate, its_tools, depth + 1)
            # Within the tool call that asks, which is a step already: its own calls are part of that.
            gate = ToolGate(self.guard, at_once, self.store.require_running)
            mine.append(ask(delegate, its_tools, await self._built(delegate, its_tools, [gate])))
        for tool in mine:
            if self.tools.setdefault(tool.name, tool) is not tool:
                raise ValueError(f"two agents declare a tool named {tool.name}; rename one")
        return mine

    async def _built(self, spec: AgentSpec, tools: Sequence[ToolSpec], capabilities: Capabilities) -> BuiltAgent:
        model = LadderModel(spec.tier, self.ladders, self.routing, self.store.note_answer)
        return build_agent(spec, tools, model, capabilities)

    async def chat(self) -> Chat:
        """Every tier for requests without an agent, over the provider's OpenAI-compatible interface."""
        settings, url = self.settings, self.settings.chat_base_url or self.settings.model_base_url
        opened = open_chat(settings.model_provider, api_key=self._key, base_url=url)
        upstream = await self.closing.enter_async_context(opened)
        cache = Cache(self.board.db, self.catalog.cache)
        return Chat(self.catalog, self.ladders, upstream, settings.model_total_timeout, cache, self.board, self.routing)

    async def open_models(self) -> None:
        """Every tier's models, which all agents and chats share."""
        for tier in self.catalog.tiers:
            self.ladders[tier] = await self._ladder(tier)

    @property
    def routing(self) -> Routing:
        return Routing(self.catalog.router, self.ledger, self.catalog.most)

    def _model_name(self, tier: str) -> str:
        """What a run is said to use before its first answer. Raises ModelUnknown."""
        return self.catalog.entry(self.catalog.router.order[0] if self.catalog.tier_of(tier) == AUTO else tier).model

    async def _ladder(self, tier: str) -> Ladder:
        rungs = [await self._rung(rung) for rung in self.catalog.ladder(tier)]
        return Ladder(rungs, rules=self.catalog.resilience)

    @property
    def _key(self) -> str | None:
        return self.settings.model_api_key.get_secret_value() if self.settings.model_api_key else None

    async def _rung(self, tier: str) -> Rung:
        """A tier's metered model; what is known of its health is known to all agents that use it."""
        settings, catalog = self.settings, self.catalog
        name, rules = catalog.entry(tier).model, catalog.resilience
        opened = open_model(settings.model_provider, name, api_key=self._key, base_url=settings.model_base_url)
        model = MeteredModel(
            await self.closing.enter_async_context(opened),
            tier=tier,
            catalog=catalog,
            ledger=self.ledger,
            board=self.board,
            limits=CallLimits(settings.model_max_tokens, settings.model_timeout, settings.model_total_timeout),
        )
        rest = timedelta(seconds=rules.breaker_rest_s)
        known = self.health.setdefault(name, Health(Breaker(name, faults=rules.breaker_faults, rest=rest)))
        return Rung(model, known)
