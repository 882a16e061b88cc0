"""What `app doctor` says beyond whether the service could start."""

from datetime import UTC, datetime

import anyio
import structlog

from app.api.limit_storage import PER_PROCESS, LimitStorage
from app.gateway.catalog import Catalog
from app.gateway.retirement import measure, require_not_retired, retired
from app.settings import Settings

log = structlog.get_logger(__name__)


def rate_limit_warnings(settings: Settings) -> list[str]:
    """Sentences about limits that are not counted across processes. Raises SettingsInvalid."""
    storage = LimitStorage.of(settings)
    if storage.shared is None:
        return [f"{PER_PROCESS} RATE_LIMIT_STORAGE_URL names a storage for all."]
    if not anyio.run(_is_reachable, storage):
        return ["RATE_LIMIT_STORAGE_URL does not answer: until it does, each process counts for itself."]
    return []


def retired_models(settings: Settings) -> list[str]:
    """Sentences about models that are gone. Raises ModelRetired outside development: a release must not begin so."""
    catalog = _catalog(settings)
    today = datetime.now(UTC).date()
    if settings.environment in {"staging", "production"}:
        require_not_retired(catalog, today)
    return [f"{model} was retired on {day}: config/models.toml." for model, day in retired(catalog, today).items()]


def announce_retirements(settings: Settings) -> None:
    """What a process says at its start about models that have a date; it starts all the same."""
    catalog = _catalog(settings)
    measure(catalog)
    for model, day in retired(catalog, datetime.now(UTC).date()).items():
        log.error("model.retired", model=model, since=day.isoformat())


def _catalog(settings: Settings) -> Catalog:
    return Catalog.load(settings.config_dir / "models.toml", settings.model_provider)


async def _is_reachable(storage: LimitStorage) -> bool:
    try:
        return await storage.reachable()
    finally:
        await storage.close()
