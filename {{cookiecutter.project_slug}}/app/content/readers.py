"""Turns at the processes that read files: a few at a time, of one tenant fewer, the rest in a bounded queue.

Gate: validation.
"""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import anyio


class ReadersBusy(Exception):
    """A tenant has too many files waiting, or one waited too long; another try is worth it after `retry_after`."""

    def __init__(self, limit: int, retry_after: timedelta) -> None:
        super().__init__("too many files are being read")
        self.limit, self.retry_after = limit, retry_after


@dataclass(eq=False)
class _Tenant:
    turns: anyio.Semaphore
    files: int = 0  # being read or waiting


@dataclass(eq=False)
class ReaderPool:
    """Whoever has the tenant's turn waits for a process: of each tenant at most `share` stand in that queue.

    So a process that becomes free goes from tenant to tenant, however many files one of them has sent."""

    processes: int = 2
    share: int = 1  # of one tenant at once
    max_waiting: int = 8  # of one tenant beyond its share
    patience: timedelta = timedelta(seconds=20)
    _free: anyio.Semaphore = field(init=False)
    _tenants: dict[str, _Tenant] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._free = anyio.Semaphore(self.processes)

    @asynccontextmanager
    async def turn(self, tenant_id: str) -> AsyncGenerator[None]:
        """Wait for a process for one file. Raises ReadersBusy where the queue is full, or `patience` is over."""
        most = self.share + self.max_waiting
        tenant = self._tenants.setdefault(tenant_id, _Tenant(anyio.Semaphore(self.share)))
        if tenant.files >= most:
            raise ReadersBusy(most, self.patience / 4)
        tenant.files += 1
        try:
            async with AsyncExitStack() as held:
                with anyio.move_on_after(self.patience.total_seconds()) as waiting:
                    await held.enter_async_context(tenant.turns)
                    await held.enter_async_context(self._free)
                if waiting.cancelled_caught:
                    raise ReadersBusy(most, self.patience / 2)
                yield
        finally:
            tenant.files -= 1
            if not tenant.files:
                self._tenants.pop(tenant_id, None)
