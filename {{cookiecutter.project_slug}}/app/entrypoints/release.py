"""What this process is: commit, image, and hashes of policy, prompts, models, prices and schema. Gate: deployment.

Computed once at start. The operations port tells it as `/version`, the command line as `app version`.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
import structlog

from app.config_files import read_config
from app.db.engine import Database
from app.entrypoints import revisions
from app.errors import StoreAway
from app.features import FEATURES
from app.gateway.catalog import Catalog, ModelsFile
from app.manifest import Feature
from app.policy.rules import Policy
from app.runs.agents import AgentSpec
from app.settings import ROOT, Settings

log = structlog.get_logger(__name__)
MILLION = 1_000_000
StoredRevisions = Callable[[], Awaitable[list[str] | None]]  # None: the database does not answer


@dataclass(frozen=True)
class Release:
    """Hashes are the first 16 hex digits of SHA-256: those of policy and prompts stand on record with every run."""

    name: str
    version: str
    commit: str | None  # SOURCE_COMMIT, which the image sets; None where nobody has said
    image_digest: str | None  # IMAGE_DIGEST, which a deployment sets: an image cannot hold its own
    policy: str  # of the rules in config/policy.toml
    prompts: Mapping[str, str]  # by feature, and by feature/agent for the agents it may ask
    models: str  # of config/models.toml: every provider's models, names, fallbacks, routing
    prices: str  # what a call costs with the models of MODEL_PROVIDER, by the file or the price library
    schema: tuple[str, ...]  # the newest migrations of this code

    @classmethod
    def read(cls, settings: Settings) -> "Release":
        """Raises SettingsInvalid, ModelUnknown and ModelUnpriced, as starting does."""
        file = settings.config_dir / "models.toml"
        service = settings.service
        return cls(
            name=service.name,
            version=service.version,
            commit=settings.source_commit,
            image_digest=settings.image_digest,
            policy=Policy.load(settings.config_dir / "policy.toml").version,
            prompts=prompt_versions(FEATURES),
            models=_digest(read_config(file, ModelsFile).model_dump(mode="json")),
            prices=_digest(_prices(Catalog.load(file, settings.model_provider))),
            schema=tuple(revisions.heads(ROOT / "migrations")),
        )

    def document(self, database: Iterable[str] | None) -> dict[str, Any]:
        """As JSON has it; `database` is what the database's schema is at, None where it was not asked or is away."""
        return {
            "name": self.name,
            "version": self.version,
            "commit": self.commit,
            "image_digest": self.image_digest,
            "policy": self.policy,
            "prompts": dict(self.prompts),
            "models": self.models,
            "prices": self.prices,
            "schema": {"code": list(self.schema), "database": None if database is None else sorted(database)},
        }


def prompt_versions(features: Iterable[Feature]) -> dict[str, str]:
    return {path: agent.prompt_version for feature in features for path, agent in agents_of(feature)}


def agents_of(feature: Feature) -> Iterator[tuple[str, AgentSpec]]:
    """A feature's agent under the feature's name, and the agents it may ask as feature/agent, at any depth."""
    due = [(feature.name, feature.agent)]
    while due:
        path, agent = due.pop()
        yield path, agent
        due += [(f"{path}/{delegate.name}", delegate) for delegate in agent.delegates]


def stored_revisions(connection: sa.Connection) -> list[str]:
    """The revisions that the database is at; none where it was never migrated."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return []
    return list(connection.scalars(sa.text("SELECT version_num FROM alembic_version")))


async def revisions_of(database: Database) -> list[str] | None:
    """The revisions that the database is at, asked now: it may be ahead of this code while a release rolls out."""
    try:
        return await database.at_once(stored_revisions, writes=False)
    except StoreAway:
        return None


def _prices(catalog: Catalog) -> dict[str, list[Any]]:
    """Micro-dollars for a million tokens of each kind, by tier and by name of an embedding model."""
    prices: dict[str, list[Any]] = {}
    for tier, entry in catalog.tiers.items():
        cost = catalog.cost_micro
        prices[tier] = [
            entry.model,
            cost(tier, input_tokens=MILLION, output_tokens=0),
            cost(tier, input_tokens=0, output_tokens=MILLION),
            cost(tier, input_tokens=MILLION, output_tokens=0, cache_read_tokens=MILLION),
            cost(tier, input_tokens=MILLION, output_tokens=0, cache_write_tokens=MILLION),
        ]
    vectors = catalog.of_embeddings
    for name, entry in vectors.tiers.items():
        prices[f"embeddings/{name}"] = [entry.model, vectors.cost_micro(name, input_tokens=MILLION, output_tokens=0)]
    return prices


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
