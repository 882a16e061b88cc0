"""Where requests are counted: in the storage that all processes share, or, without one, in this process alone.

Gate: security.
"""

import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import anyio
import structlog
from limits import RateLimitItem
from limits.aio.storage import MemoryStorage, Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import ConfigurationError
from limits.storage import storage_from_string

from app.config_files import SettingsInvalid
from app.settings import Settings
from app.telemetry.metrics import LIMIT_STORAGE_FAILURES

log = structlog.get_logger(__name__)
REST = timedelta(seconds=5)  # after a failure, before the storage is asked again
CLIENTS = {"redis": "redis", "valkey": "valkey", "memcached": "memcachio"}  # the package of each
PER_PROCESS = "Rate limits are counted by each process for itself: N processes allow N times as much."


@dataclass
class LimitStorage:
    """Counts in the shared storage; where that fails, in this process, so that no caller is locked out by it.

    A storage that hangs delays a request by `patience` once in `REST` at most."""

    shared: SlidingWindowCounterRateLimiter | None = None
    patience: timedelta = timedelta(milliseconds=250)  # of each question to the storage
    _own: SlidingWindowCounterRateLimiter = field(
        default_factory=lambda: SlidingWindowCounterRateLimiter(MemoryStorage())
    )
    _rests_until: float = 0.0

    @classmethod
    def of(cls, settings: Settings) -> "LimitStorage":
        """Raises SettingsInvalid for a URL that no client that is installed can read."""
        url, patience = settings.rate_limit_storage_url, settings.rate_limit_storage_timeout
        return cls(SlidingWindowCounterRateLimiter(_opened(url, patience)) if url else None, patience)

    async def reachable(self) -> bool:
        """Whether the shared storage answers in time; without one there is nothing to reach."""
        if self.shared is None:
            return True
        try:
            with anyio.fail_after(4 * self.patience.total_seconds()):
                return bool(await self.shared.storage.check())
        except Exception:  # noqa: BLE001 - each client has errors of its own
            return False

    async def close(self) -> None:
        """Close the connections to the shared storage, where its client has any."""
        bridge = getattr(self.shared.storage, "bridge", None) if self.shared is not None else None
        close = getattr(getattr(bridge, "storage", None), "aclose", None)
        if close is not None:
            await close()

    async def hit(self, item: RateLimitItem, *names: str) -> bool:
        """Count one more; False where the limit is reached, and nothing is counted."""
        return bool(await self._ask("hit", item, *names))

    async def reset_time(self, item: RateLimitItem, *names: str) -> float:
        """When there will be room again, in seconds since the epoch."""
        return float((await self._ask("get_window_stats", item, *names)).reset_time)

    async def _ask(self, what: str, item: RateLimitItem, *names: str) -> Any:
        if self.shared is not None and time.monotonic() >= self._rests_until:
            try:
                with anyio.fail_after(self.patience.total_seconds()):
                    return await getattr(self.shared, what)(item, *names)
            except Exception as error:  # noqa: BLE001 - each client has errors of its own
                self._rests_until = time.monotonic() + REST.total_seconds()
                LIMIT_STORAGE_FAILURES.inc()
                log.warning("limits.storage_failed", error=type(error).__name__, rest_s=REST.total_seconds())
        return await getattr(self._own, what)(item, *names)


def _opened(url: str, patience: timedelta) -> Storage:
    """The storage behind a URL of the `limits` library; whether it can be reached shows with the first question."""
    scheme = url.partition("://")[0]
    client = next((name for name in CLIENTS if scheme.startswith(name)), scheme)
    options: dict[str, Any] = {"wrap_exceptions": True}
    if client == "redis":
        options["implementation"] = "redispy"
    if client in {"redis", "valkey"}:
        options |= dict.fromkeys(("socket_timeout", "socket_connect_timeout"), patience.total_seconds())
    try:
        storage = storage_from_string(f"async+{url}", **options)
    except ConfigurationError as error:
        raise SettingsInvalid(
            f"RATE_LIMIT_STORAGE_URL: the client for {scheme}:// is not installed; add it: uv add {CLIENTS[client]}"
        ) from error
    except (ValueError, TypeError) as error:
        raise SettingsInvalid(f"RATE_LIMIT_STORAGE_URL: not a URL that {scheme}:// has") from error
    assert isinstance(storage, Storage)  # noqa: S101 - by its scheme; narrows the library's type
    return storage
