"""Workers beside the service of a world: processes of their own, as many as a proof wants."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import httpx2

from app.runs.liveness import PostgresLocks
from gates.rig.plain_http import PLAIN
from gates.rig.service import START_SECONDS, Service, free_ports, wait_for


@dataclass
class Worker:
    process: subprocess.Popen[bytes]
    operations_port: int

    def operations(self, path: str, timeout: float = 5) -> httpx2.Response:
        """From its operations port, by no proxy."""
        address = f"http://127.0.0.1:{self.operations_port}{path}"
        return httpx2.get(address, **PLAIN, timeout=timeout)

    def is_ready(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the worker ended with {self.process.returncode}")
        try:
            return self.operations("/readyz").status_code == 200
        except httpx2.TransportError:
            return False

    def ask_to_end(self, *, times: int = 1) -> None:
        """As a platform does; more than once, each time after it has been heard: two signals at a moment are one."""
        for number in range(times):
            if number:
                wait_for(self._is_draining, START_SECONDS)
            self.process.send_signal(signal.SIGTERM)

    def _is_draining(self) -> bool:
        try:
            return self.process.poll() is not None or self.operations("/readyz").json()["status"] == "draining"
        except httpx2.TransportError:
            return False

    def ended(self, within_s: float) -> bool:
        """As a supervisor does: wait, and kill what is still there. Whether it ended by itself."""
        try:
            self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(30)
            return False
        return True


@dataclass
class Workers:
    """All workers that a proof has started; none outlives it."""

    service: Service
    started: list[Worker] = field(default_factory=list)

    def start(self, **settings: str) -> Worker:
        """Start one and wait until it takes work."""
        worker = self.launch(**settings)
        wait_for(worker.is_ready, START_SECONDS)
        return worker

    def launch(self, **settings: str) -> Worker:
        service = self.service
        [port] = free_ports(1)
        environment = {
            **os.environ, "ENVIRONMENT": "test", "DATABASE_URL": service.database_url, **service.environment,
            "OPERATIONS_PORT": str(port), **settings,
        }  # fmt: skip
        command = [sys.executable, "-m", service.module, "worker"]
        with service.log.open("ab") as log:
            process = subprocess.Popen(command, cwd=service.log.parent, env=environment, stderr=log)
        worker = Worker(process, port)
        self.started.append(worker)
        return worker

    def end(self) -> None:
        for worker in self.started:
            if worker.process.poll() is None:
                worker.process.kill()
                worker.process.wait(30)


@contextmanager
def workers(service: Service) -> Iterator[Workers]:
    made = Workers(service)
    try:
        yield made
    finally:
        made.end()


@contextmanager
def slot_watched(url: str, slot: str) -> Iterator[list[float]]:
    """When a worker's slot on PostgreSQL was first free, asked as another worker asks; empty while it is held."""
    seen: list[float] = []
    stopped = threading.Event()

    def look() -> None:
        with closing(PostgresLocks(url)) as locks:
            while not stopped.wait(0.05):
                if locks.acquire(slot):
                    seen.append(time.monotonic())
                    return

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stopped.set()
        thread.join(10)
