"""Gate 6, observability: what operators see of each process, and what becomes of a worker that is stuck."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from app.runs.liveness import LOST_IDENTITY
from app.settings import ROOT
from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig import driven
from gates.rig.alerts import Page, Wanted, served, wanted
from gates.rig.composed import Composed
from gates.rig.databases import NewDatabase, belongs_to
from gates.rig.plain_http import PLAIN
from gates.rig.provider import calls
from gates.rig.service import START_SECONDS, free_ports, wait_for
from gates.rig.workers import workers
from gates.rig.world import final

INSIDE = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"  # another address of this host than the default one
GIVEN = {
    "ENVIRONMENT": "production", "SESSION_SECRET": "for-this-proof-alone-" * 3, "MODEL_PROVIDER": "openai",
    "MODEL_API_KEY": "of-no-provider", "PUBLIC_URL": "https://service.example", "SERVICE_PASSWORD": "x",
    "POSTGRES_PASSWORD": "x",
}  # fmt: skip
ALERTS = ROOT / "deploy" / "monitoring" / "alerts.yml"
LOOKED_S = 150.0  # less than hazard_block stands still, and many times what the watchdog waits


@dataclass
class Process:
    """One service of the compose files, on ports of its own."""

    process: subprocess.Popen[bytes]
    public_port: int
    operations_port: int
    log: Path

    @property
    def said(self) -> str:
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        return self.log.read_text()

    def get(self, path: str, *, host: str = INSIDE, port: int = 0) -> httpx2.Response:
        return httpx2.get(f"http://{host}:{port or self.operations_port}{path}", **PLAIN, timeout=10)

    def answers(self, path: str, within_s: float) -> bool:
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            with suppress(httpx2.TransportError):
                if self.get(path).status_code == 200:
                    return True
            time.sleep(0.1)
        return False


@contextmanager
def _started(composed: Composed, service: str, database_url: str, folder: Path) -> Iterator[Process]:
    public, operations = free_ports(2)
    belongs_to(database_url, GIVEN["ENVIRONMENT"])
    environment = {
        **os.environ, "HOST": "127.0.0.1", **composed.environment(service), "DATABASE_URL": database_url,
        "PORT": str(public), "OPERATIONS_PORT": str(operations), "OPERATIONS_HOST": INSIDE,
    }  # fmt: skip
    [program, *arguments] = composed.command(service)
    assert program == "app"
    file = folder / f"{service}.log"
    with file.open("wb") as log:
        command = [sys.executable, "-m", "app", *arguments]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=log)
    try:
        yield Process(process, public, operations, file)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)


@control("OBS-14", cases=28)
def test_every_series_of_an_alert_is_served_where_the_work_is(
    proof: Proof, new_postgres: NewDatabase, tmp_path: Path
) -> None:
    composed, url = Composed(GIVEN), new_postgres()
    with ExitStack() as stack:
        web, worker = (stack.enter_context(_started(composed, name, url, tmp_path)) for name in ("web", "worker"))
        with proof.positive("both processes start as the compose files start them"):
            wait_for(lambda: "listens on" in web.said, START_SECONDS)
            wait_for(lambda: "takes runs" in worker.said, START_SECONDS)
            driven.started(web.operations_port, worker.operations_port)  # not by the rig: as the compose files say
        for process in (web, worker):
            proof.holds("scraped", process.answers("/metrics", START_SECONDS), "no metrics where a scraper would ask")
        proof.holds("alive", worker.answers("/readyz", START_SECONDS), "it takes runs and is not ready")
        pages = {name: served(process.get("/metrics").text) for name, process in (("web", web), ("worker", worker))}
        for series in wanted(ALERTS):
            proof.holds("scraped", series.name in pages["worker"], f"{series}: not served by the worker")
            proof.holds("from-the-start", series.is_among(pages["worker"]), f"{series}: no such labels")
        _money_is_spent_in_both(proof, pages)
        for name, process in (("web", web), ("worker", worker)):
            _inside_only(proof, composed, name, process)
        proof.same("alive", [worker.get(path).status_code for path in ("/livez", "/readyz")], [200, 200])
        _checked_by_no_proxy(proof, composed, worker)


def _money_is_spent_in_both(proof: Proof, pages: dict[str, Page]) -> None:
    """Chats spend in the web process; what only a worker's housekeeping knows, the web process does not claim."""
    of_budgets = Wanted("", "ai_budget_thresholds_total", frozenset({("percent", "100"), ("scope", "tenant")}))
    proof.holds("from-the-start", of_budgets.is_among(pages["web"]), "budgets of the web process")
    for name in ("ai_approval_oldest_pending_seconds", "ai_tool_outcome_unknown", "ai_budget_burn"):
        proof.holds("where-the-work-is", name not in pages["web"], f"{name}: the web process says it too")


def _inside_only(proof: Proof, composed: Composed, name: str, process: Process) -> None:
    declared = composed.environment(name)
    port = declared["OPERATIONS_PORT"]
    proof.same("inside-only", declared["OPERATIONS_HOST"], "0.0.0.0", f"{name}: where its network reaches it")  # noqa: S104
    proof.holds("inside-only", port not in composed.published(name), f"{name}: its operations port is published")
    proof.holds("inside-only", port in composed.services[name]["expose"], f"{name}: its operations port is not exposed")
    if name == "web":
        proof.same("inside-only", process.get("/metrics", host="127.0.0.1", port=process.public_port).status_code, 404)


def _checked_by_no_proxy(proof: Proof, composed: Composed, worker: Process) -> None:
    """The health check of the compose file, word for word but for the address, with a proxy that leads nowhere."""
    [how, program, *arguments] = composed.services["worker"]["healthcheck"]["test"]
    assert (how, program) == ("CMD", "python")
    words = [word.replace("127.0.0.1:9000", f"{INSIDE}:{worker.operations_port}") for word in arguments]
    nowhere = "http://127.0.0.1:9"
    environment = {**os.environ, "http_proxy": nowhere, "HTTP_PROXY": nowhere, "no_proxy": "", "NO_PROXY": ""}
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, timeout=60, check=False)
    proof.same("alive", done.returncode, 0, f"{done.stderr.decode()[-200:]} health check:")


@pytest.mark.timeout(2_000)
@control("OBS-15", cases=4)
def test_a_worker_that_is_stuck_is_not_alive_and_ends_itself(
    proof: Proof, new_world: NewWorld, new_postgres: NewDatabase
) -> None:
    with new_world(new_postgres(), EMBEDDED_WORKER="false") as world, workers(world.service) as started:
        [runner] = world.people(["hazard_runner"])
        worker = started.start(DATABASE_TIMEOUT_S="3")
        with proof.positive("a worker at work is alive"):
            ran = world.run(runner, calls("probe_lookup", {"query": "a"}), final(), feature="hazard")
            assert ran.state["state"] == "succeeded"
            assert worker.operations("/livez").status_code == 200
        stuck = world.start(runner, calls("hazard_block", {"query": "a"}), final(), feature="hazard")
        wait_for(lambda: world.effects.of(stuck.answer.json()["id"]), 60)
        began = time.monotonic()
        alive = False
        while worker.process.poll() is None and time.monotonic() - began < LOOKED_S:
            try:
                alive = worker.operations("/livez", timeout=2).status_code == 200
            except httpx2.TransportError:
                alive = False
            proof.holds("stuck-not-alive", not alive, "a blocked event loop answers")
        proof.same("ends-itself", worker.process.poll(), LOST_IDENTITY, "exit code")
