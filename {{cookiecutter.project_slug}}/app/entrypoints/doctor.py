"""What `app doctor` says beyond whether the service could start."""

import anyio

from app.api.limit_storage import PER_PROCESS, LimitStorage
from app.settings import Settings


def rate_limit_warnings(settings: Settings) -> list[str]:
    """Sentences about limits that are not counted across processes. Raises SettingsInvalid."""
    storage = LimitStorage.of(settings)
    if storage.shared is None:
        return [f"{PER_PROCESS} RATE_LIMIT_STORAGE_URL names a storage for all."]
    if not anyio.run(_is_reachable, storage):
        return ["RATE_LIMIT_STORAGE_URL does not answer: until it does, each process counts for itself."]
    return []


async def _is_reachable(storage: LimitStorage) -> bool:
    try:
        return await storage.reachable()
    finally:
        await storage.close()
