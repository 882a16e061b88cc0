"""The operations port of a worker: its metrics, its health, and a watchdog that ends a worker which is stuck.

A worker is alive while its event loop turns, the database path answers in time, with an error perhaps, and its queue
is polled. A database that is away makes it unready and leaves it alive: a restart would not help. Gate: observability.
"""

import os
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import anyio
import structlog
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from app.draining import Drain
from app.entrypoints.release import Release, StoredRevisions
from app.entrypoints.web import create_operations_app
from app.runs.engine import polls_queue
from app.runs.liveness import LOST_IDENTITY

log = structlog.get_logger(__name__)
BEAT_EVERY = timedelta(seconds=2)
SLACK = timedelta(seconds=10)  # beyond the database's own patience, for a machine under load
PAUSED_S = 5.0  # between two looks of the watchdog: the whole process stood still


def stuck_after(database_timeout: timedelta) -> timedelta:
    """How long nothing may be heard of a worker before it counts as stuck."""
    return 2 * database_timeout + SLACK


@dataclass
class Heartbeat:
    """What a worker shows of itself; `forever` keeps it fresh, everything else may be read from any thread."""

    ping: Callable[[], Awaitable[None]]  # through the service's own database path
    drain: Drain
    deadline: timedelta
    is_polling: Callable[[], bool] = polls_queue
    takes_work: bool = False  # set once the worker has started
    _answered: float = field(default_factory=time.monotonic)
    _polled: float = field(default_factory=time.monotonic)
    _database_ready: bool = False

    async def forever(self) -> None:
        while True:
            await self.beat()
            await anyio.sleep(BEAT_EVERY.total_seconds())

    async def beat(self) -> None:
        """Ask the database once. One that says no has answered; one that never answers leaves the heart still."""
        try:
            await self.ping()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it is not ready
            log.warning("worker.database_unready", error=type(error).__name__)
            self._database_ready = False
        else:
            self._database_ready = True
        now = time.monotonic()
        self._answered = now
        if not self.takes_work or self.drain.requested.is_set() or self.is_polling():
            self._polled = now

    @property
    def silent(self) -> timedelta:
        """How long ago the last sign of life was."""
        return timedelta(seconds=time.monotonic() - min(self._answered, self._polled))

    @property
    def trouble(self) -> str:
        """Why this worker should be restarted; empty while it is alive."""
        if self.silent <= self.deadline:
            return ""
        return "queue not polled" if self._polled < self._answered else "no answer from the database path"

    @property
    def unready(self) -> str:
        """Why this worker takes no work; empty while it does."""
        if self.drain.requested.is_set():
            return "draining"
        if not self.takes_work:
            return "starting"
        return self.trouble or ("" if self._database_ready else "database unavailable")


class Watchdog(threading.Thread):
    """Ends the process when its worker has been stuck for long: not every supervisor restarts what is unhealthy."""

    def __init__(self, heartbeat: Heartbeat, *, exit_process: Callable[[int], object] = os._exit) -> None:
        super().__init__(daemon=True, name="watchdog")
        self._heartbeat, self._exit, self._stopped = heartbeat, exit_process, threading.Event()

    def run(self) -> None:
        patience = 2 * self._heartbeat.deadline.total_seconds()
        looked = resumed = time.monotonic()
        while not self._stopped.wait(1.0):
            now = time.monotonic()
            if now - looked > PAUSED_S:
                resumed = now
            looked = now
            if min(self._heartbeat.silent.total_seconds(), now - resumed) > patience:
                log.critical("worker.stuck", trouble=self._heartbeat.trouble)
                self._exit(LOST_IDENTITY)
                return

    def stop(self) -> None:
        self._stopped.set()


@asynccontextmanager
async def watched(heartbeat: Heartbeat, *, ends_process: bool) -> AsyncGenerator[None]:
    """Keep the heart beating, and the watchdog at it, until the block ends."""
    watchdog = Watchdog(heartbeat)
    if ends_process:
        watchdog.start()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(heartbeat.forever)
            yield
            tasks.cancel_scope.cancel()
    finally:
        watchdog.stop()


def create_worker_operations_app(release: Release, stored: StoredRevisions, heartbeat: Heartbeat) -> FastAPI:
    """`/metrics`, `/version`, `/livez` and `/readyz` of a worker, for the inside of the network."""
    app = create_operations_app(release, stored, housekeeping=True)

    @app.api_route("/livez", methods=["GET", "HEAD"])
    async def livez() -> JSONResponse:
        trouble = heartbeat.trouble
        return JSONResponse({"status": trouble or "alive"}, 503 if trouble else 200)

    @app.api_route("/readyz", methods=["GET", "HEAD"])
    async def readyz() -> JSONResponse:
        unready = heartbeat.unready
        return JSONResponse({"status": unready or "ready"}, 503 if unready else 200)

    return app
