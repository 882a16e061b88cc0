"""`python -m gates.chaos`: kill the service at random while runs work, again and again, and count what happened.

Once on SQLite with one process, once on PostgreSQL with a web process and two workers. Every approved effect must have
happened exactly once at its back end, every run must have ended, and every audit chain must verify.
"""

import os
import random
import socketserver
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer
from rich.console import Console

from app.audit import trail
from app.audit.trail import ChainReport
from app.runtime import Runtime
from gates.rig.databases import NewDatabase, postgres_databases, sqlite_databases
from gates.rig.environment import isolate
from gates.rig.people import Person
from gates.rig.provider import Body, calls
from gates.rig.world import World, final, opened

IN_FLIGHT = 20
LIMIT_SECONDS = 9_000
ENDED = {"succeeded", "failed", "cancelled"}
out = Console(highlight=False)


@dataclass
class Storm:
    """One service under fire: runs that each store two entries, approvals given as they are asked, kills at random."""

    world: World
    rng: random.Random
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    kills: int = 0

    def play(self, runs: int) -> Counter[str]:
        [writer, approver] = self.world.people(["hazard_runner"], ["probe_approver"])
        waiting, going, states = list(range(runs)), dict[str, int](), Counter[str]()
        until, strike = time.monotonic() + LIMIT_SECONDS, time.monotonic() + 2
        ids: list[str] = []
        while (waiting or going) and time.monotonic() < until:
            while waiting and len(going) < IN_FLIGHT:
                run_id = self._start(writer, waiting[-1])
                if run_id is None:
                    break
                ids.append(run_id)
                going[run_id] = waiting.pop()
            self._decide(approver)
            for run_id in list(going):
                state = self._state(writer, run_id)
                if state in ENDED:
                    states[state] += 1
                    del going[run_id]
            if time.monotonic() > strike:
                self._strike()
                strike = time.monotonic() + self.rng.uniform(2.0, 6.0)
            time.sleep(0.1)
        states["not ended"] = len(going) + len(waiting)
        return states + self._effects(ids)

    def _start(self, who: Person, number: int) -> str | None:
        replies = [calls("hazard_store", {"text": f"entry {number}.{n}"}, f"call_{n}") for n in range(2)]

        def answer(body: Body) -> Any:
            said = sum(message["role"] == "assistant" for message in body["messages"])
            return [*replies, final()][min(said, 2)]

        script = self.world.model.script(answer)
        with suppress(httpx2.HTTPError):
            started = self.world.service.start_run(who, script.task(), feature="hazard", key=f"chaos-{number}")
            return str(started.json()["id"]) if started.status_code in {200, 202} else None
        self._revive()
        return None

    def _decide(self, who: Person) -> None:
        with suppress(httpx2.HTTPError):
            for question in self.world.service.call(who, "GET", "/v1/approvals?state=pending").json()["items"]:
                self.world.service.decide(who, question)
            return
        self._revive()

    def _state(self, who: Person, run_id: str) -> str:
        with suppress(httpx2.HTTPError):
            return str(self.world.service.call(who, "GET", f"/v1/runs/{run_id}").json().get("state"))
        self._revive()
        return ""

    def _strike(self) -> None:
        """Kill the service, or one of its workers, as a crash would."""
        self.kills += 1
        victim = self.rng.randrange(len(self.workers) + 1)
        if victim == 0:
            self.world.service.kill()
        else:
            self.workers[victim - 1].kill()
            self.workers[victim - 1].wait(300)
        self._revive()

    def _revive(self) -> None:
        self.world.service.revive()
        for number, worker in enumerate(self.workers):
            if worker.poll() is not None:
                self.workers[number] = self.worker()

    def worker(self) -> subprocess.Popen[bytes]:
        service = self.world.service
        environment = {
            **os.environ, "ENVIRONMENT": "test", "DATABASE_URL": service.database_url, "OPERATIONS_PORT": "0",
            **service.environment,
        }  # fmt: skip
        with service.log.open("ab") as log:
            command = [sys.executable, "-m", "gates.rig.serve", "worker"]
            return subprocess.Popen(command, cwd=service.log.parent, env=environment, stderr=log)

    def _effects(self, ids: list[str]) -> Counter[str]:
        """What the back end has stored, by idempotency key: one entry for each approved call, whatever came twice."""
        arrived: dict[str, set[str]] = {}
        for effect in self.world.effects.happened:
            arrived.setdefault(effect.idempotency_key, set()).add(effect.arguments["text"])
        texts = Counter(text for found in arrived.values() for text in found)
        approved = self.world.sql("SELECT run_id, call_id FROM approvals WHERE state = 'used'")
        keys = {f"{run_id}:{call_id}" for run_id, call_id in approved if run_id in ids}
        return Counter(
            {
                "approved calls": len(keys),
                "approved and not done": len(keys - set(arrived)),
                "done and not approved": len(set(arrived) - keys),
                "done twice": sum(count > 1 for count in texts.values()) + sum(len(t) > 1 for t in arrived.values()),
            }
        )

    def broken_chains(self) -> int:
        async def verify(runtime: Runtime) -> list[ChainReport]:
            tenants = [tenant for (tenant,) in self.world.sql("SELECT tenant_id FROM audit_heads")]
            return [await trail.verify(runtime.db, _Scope(tenant), tenant) for tenant in tenants]

        reports: list[ChainReport] = self.world.service.inside(verify)
        return sum(not report.intact for report in reports)


@dataclass(frozen=True)
class _Scope:
    tenant_id: str


@contextmanager
def _storm(new: NewDatabase, folder: Path, rng: random.Random, workers: int) -> Iterator[Storm]:
    embedded = str(workers == 0).lower()
    with opened(new(), folder, EMBEDDED_WORKER=embedded) as world:
        storm = Storm(world, rng)
        storm.workers = [storm.worker() for _ in range(workers)]
        try:
            yield storm
        finally:
            for worker in storm.workers:
                worker.kill()
                worker.wait(300)


def main(
    runs: Annotated[int, typer.Option(min=1, help="Runs on each database.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the kills.")] = 1,
) -> None:
    """Kill the service at random while runs work; exit 1 when anything is lost, repeated or forged."""
    isolate()
    # Every kill breaks connections to the rig's counterparts; that they notice is no news.
    socketserver.BaseServer.handle_error = lambda *_: None  # type: ignore[method-assign]
    good = True
    with tempfile.TemporaryDirectory(prefix="chaos-") as home:
        folder = Path(home)
        with sqlite_databases(folder) as sqlite:
            good &= _report("SQLite, one process", sqlite, folder, runs, seed, workers=0)
        with postgres_databases() as postgres:
            good &= _report("PostgreSQL, two workers", postgres, folder, runs, seed, workers=2)
    raise SystemExit(0 if good else 1)


def _report(what: str, new: NewDatabase, folder: Path, runs: int, seed: int, *, workers: int) -> bool:
    began = time.monotonic()
    with _storm(new, folder, random.Random(seed), workers) as storm:  # noqa: S311 - the same storm every time
        seen = storm.play(runs)
        broken = storm.broken_chains()
    wrong = {
        name: seen[name]
        for name in ("failed", "not ended", "approved and not done", "done and not approved", "done twice")
    }
    good = seen["succeeded"] == runs and seen["approved calls"] == 2 * runs and not any(wrong.values()) and not broken
    style = "green" if good else "red"
    out.print(f"[{style}]{what}[/]: {runs} runs, {storm.kills} kills in {time.monotonic() - began:.0f} s")
    out.print(f"  {seen['succeeded']} succeeded, {seen['approved calls']} approved effects, each exactly once: {good}")
    out.print(f"  {wrong}, broken audit chains: {broken}", style="dim")
    return good


if __name__ == "__main__":
    typer.run(main)
