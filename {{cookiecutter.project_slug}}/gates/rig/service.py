"""The service as its users meet it: a process with a port."""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx2
import psutil

from app.bootstrap import open_runtime
from app.runtime import Runtime
from app.settings import load_settings
from gates.rig import driven, people
from gates.rig.pace import GENEROUS, REQUEST_SECONDS, OutOfTime
from gates.rig.people import Person
from gates.rig.plain_http import PLAIN

START_SECONDS = 60
ENDING_SECONDS = 30  # after which it is killed, where nothing is proven by its end
ATTEMPTS = 3
NOT_GIVEN_AWAY = 20_000, 32_000  # below the ports that Linux (32768) and others (49152) choose from
ENDED = {"succeeded", "failed", "cancelled"}
Found = TypeVar("Found")


class PortLost(RuntimeError):
    """Another process took the port between our looking and the service's listening."""


@dataclass
class Service:
    database_url: str
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    module: str = "app"  # or gates.rig.serve, which adds the probe
    answers: list[httpx2.Response] = field(default_factory=list)  # everything it said, for leak scans
    process: subprocess.Popen[bytes] | None = None
    port: int = 0
    operations_port: int = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it on free ports and wait until it is ready; a port that somebody takes first is tried again."""
        for attempt in range(ATTEMPTS):
            try:
                self._launch()
                wait_for(self._ready, START_SECONDS)
                driven.started(self.port, self.operations_port)
            except PortLost:
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                return

    def _launch(self) -> None:
        self.port, self.operations_port = free_ports(2)
        settings = {
            "ENVIRONMENT": "test",
            "DATABASE_URL": self.database_url,
            "PORT": str(self.port),
            "OPERATIONS_PORT": str(self.operations_port),
            "SHUTDOWN_GRACE_S": "5",  # a proof that ends a service should not wait for what it left hanging
            **self.environment,
        }
        command = [sys.executable, "-m", self.module, "serve"]
        with self.log.open("ab") as log:
            environment = {**os.environ, **settings}
            self.process = subprocess.Popen(command, cwd=self.log.parent, env=environment, stderr=log)

    def _ready(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            last_words = self.log.read_text()[-2000:]
            raise (PortLost if "is taken by another process" in last_words else RuntimeError)(last_words)
        try:
            ready = httpx2.get(f"{self.base_url}/readyz", **PLAIN).status_code == 200
            return ready and self.port in listening_ports(self.process.pid)
        except httpx2.TransportError:
            return False

    def kill(self) -> None:
        """End it as a crash would: no handler runs."""
        self._end(signal.SIGKILL, 30 * GENEROUS)

    def stop(self, seconds: float = 30 * GENEROUS) -> int:
        """Ask it to end. Raises subprocess.TimeoutExpired when it has not after so many seconds."""
        return self._end(signal.SIGTERM, seconds)

    def revive(self) -> None:
        """Start it again where it has died by itself or was killed; otherwise leave it alone."""
        if self.process is not None and self.process.poll() is None:
            return
        self.process = None
        try:
            self.start()
        except RuntimeError:
            if self.process is not None and self.process.poll() is not None:
                self.process = None  # it died again while it started: the next look tries again
                return
            raise

    def _end(self, how: signal.Signals, seconds: float) -> int:
        process = self.process
        if process is None:
            return 0
        process.send_signal(how)
        code = process.wait(seconds)
        if self.process is process:  # a proof may have started the next one meanwhile
            self.process = None
        return code

    def people(self, *roles: Sequence[str]) -> list[Person]:
        """One tenant with a member for each list of roles."""

        async def make(runtime: Runtime) -> list[Person]:
            tenant_id = await people.tenant(runtime)
            return [await people.person(runtime, tenant_id, each) for each in roles]

        made: list[Person] = self.inside(make)
        return made

    def inside(self, work: Callable[[Runtime], Any]) -> Any:
        """Do something on the service's database with a runtime of our own."""

        async def run() -> Any:
            settings = {"database_url": self.database_url, "environment": "test"}
            if "CONFIG_DIR" in self.environment:
                settings["config_dir"] = self.environment["CONFIG_DIR"]
            async with open_runtime(load_settings(**settings), durable=False) as runtime:
                return await work(runtime)

        return asyncio.run(run())

    def call(self, who: Person | None, method: str, path: str, **options: Any) -> httpx2.Response:
        headers = dict(options.pop("headers", {}))
        if who is not None:
            headers["Authorization"] = f"Bearer {who.key}"
        answer = httpx2.request(
            method, self.base_url + path, headers=headers, **PLAIN, timeout=REQUEST_SECONDS, **options
        )
        self.answers.append(answer)
        return answer

    def operations(self, path: str) -> httpx2.Response:
        """From the port that only the inside of the network sees."""
        return httpx2.get(f"http://127.0.0.1:{self.operations_port}{path}", **PLAIN, timeout=REQUEST_SECONDS)

    def start_run(
        self,
        who: Person,
        task: str,
        *,
        documents: Sequence[tuple[str, str]] = (),
        key: str = "",
        feature: str = "assistant",
        body: dict[str, Any] | None = None,
    ) -> Any:
        """`body` adds to the request, or replaces what is in it."""
        sent = {
            "feature": feature,
            "task": task,
            "documents": [{"name": name, "text": text} for name, text in documents],
            **(body or {}),
        }
        headers = {"Idempotency-Key": key or uuid4().hex}
        return self.call(who, "POST", "/v1/runs", json=sent, headers=headers)

    def run_until(self, who: Person, run_id: str, *states: str) -> Any:
        def reached() -> Any:
            answer = self.call(who, "GET", f"/v1/runs/{run_id}")
            if answer.status_code == 503:  # a store that is busy for a moment: asked again while the time lasts
                return None
            run = answer.json()
            if run["state"] in ENDED and run["state"] not in states:
                raise AssertionError(f"the run {run['state']} instead of {' or '.join(states)}: {run.get('error')}")
            return run if run["state"] in states else None

        return wait_for(reached)

    def pending(self, who: Person, run_id: str) -> list[Any]:
        items = self.call(who, "GET", "/v1/approvals?state=pending").json()["items"]
        return [item for item in items if item["run_id"] == run_id]

    def decide(self, who: Person, approval: Any, decision: str = "approve", **changes: str) -> httpx2.Response:
        body = {"decision": decision, "digest": approval["digest"], "reason": "test decision", **changes}
        return self.call(who, "POST", f"/v1/approvals/{approval['id']}/decision", json=body)


@contextmanager
def running(database_url: str, folder: Path, module: str = "app", **environment: str) -> Iterator[Service]:
    service = Service(database_url, folder / f"service-{uuid4().hex[:8]}.log", environment, module)
    service.start()
    try:
        yield service
    finally:
        try:
            service.stop(ENDING_SECONDS)
        except subprocess.TimeoutExpired:  # what it was asked to finish goes on too long: not what is proven here
            service.kill()


def free_ports(count: int) -> list[int]:
    """Different ports that are free now: all are held until the last is found.

    None that the system gives to whoever asks for any port: a stub, or a connection, could have it a moment later."""
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < count:
            port = random.randint(*NOT_GIVEN_AWAY)  # noqa: S311 - nobody has to guess it
            with suppress(OSError):
                held.enter_context(socket.create_server(("127.0.0.1", port)))
                found.append(port)
    return found


def listening_ports(pid: int) -> set[int]:
    """Where this very process listens: an answer alone may be that of another."""
    connections = psutil.Process(pid).net_connections(kind="tcp")
    return {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}


def wait_for(ready: Callable[[], Found | None], seconds: float = 20) -> Found:
    """Poll until the answer is true. `seconds` is what it takes at most on an idle machine.

    Raises OutOfTime after ten times that: it is the machine that is waited for, and there is nothing to judge."""
    deadline = time.monotonic() + seconds * GENEROUS
    while time.monotonic() < deadline:
        if found := ready():
            return found
        time.sleep(0.05)
    raise OutOfTime(f"not reached within {seconds * GENEROUS:g} s: {ready}")
