"""Everything a proof needs around one running service: provider, back ends, sink, clock, people, canaries."""

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import psycopg

from app.settings import ROOT
from app.tools.egress import Egress
from app.tools.servers import ToolServers
from gates.rig import hazard, probe, processes, serve
from gates.rig.canaries import Canaries, canary
from gates.rig.clock import Clock
from gates.rig.databases import owner_of
from gates.rig.effects import Effect, Effects, effects
from gates.rig.formats import Reply, Wire
from gates.rig.pace import REQUEST_SECONDS
from gates.rig.people import Person
from gates.rig.plain_http import PLAIN
from gates.rig.provider import Answer, Provider, Script, calls, provider
from gates.rig.service import Service, running, wait_for
from gates.rig.sink import Sink, sink
from gates.rig.tool_server import ToolServer

# Roles of the rig, beside the product's own. Proofs of a rule use these, so that a product may change its roles.
ROLES = {
    "probe_starter": ["runs:read", "runs:write"],
    "probe_reader": ["runs:read", "runs:write", "usage:read", "probe:read"],
    "probe_writer": [
        "runs:read", "runs:write", "usage:read", "probe:read", "probe:write", "probe:delete", "probe:post",
    ],
    "probe_approver": ["runs:read", "approvals:read", "approvals:decide"],
    "hazard_runner": [
        "runs:read", "runs:write", "usage:read", "probe:read", "probe:write", "probe:delete", "hazard:run",
    ],
    "hazard_only": ["runs:read", "runs:write", "hazard:run"],
    "probe_chatter": ["chat:write", "usage:read"],
    "probe_holder": ["runs:read", "usage:read", "keys:self", "keys:redeem"],
    "probe_nothing": [],
    "probe_admin": [
        "runs:read", "usage:read", "approvals:read", "keys:write", "members:read", "members:write", "budgets:write",
        "audit:read",
    ],
}  # fmt: skip
MODEL, SPARE = "probe-model-1", "probe-model-2"
# Small enough that the product's own caps leave room for every proof.
CONTEXT_TOKENS = 128_000
INPUT_USD_PER_MTOK, OUTPUT_USD_PER_MTOK = "0.01", "0.10"


# A policy that lets an untainted run do everything alone: what still asks, asks because of the run's taint.
ALLOW_EVERYTHING = """
[[rule]]
id = "everything"
decision = "allow"
reason = "a proof looks at what no policy can allow"
"""


# A proof asks more often than any caller; what limits do is proven with their own.
NO_LIMITS = "[limits]\n" + "".join(
    f'{name} = "1000000/second"\n' for name in ("address", "refused", "member", "costly")
)


ONE_ATTEMPT = "attempts = 1\nbreaker_faults = 1000\n"  # most proofs look at one failure, and share their service


def models(resilience: str = ONE_ATTEMPT, spare: str = "", *, tiers: Sequence[str] = ("standard",)) -> str:
    """A catalogue whose prices depend on no library; `spare`, its dollars for a million tokens, adds a stand-in."""
    price = f'input_usd_per_mtok = "{INPUT_USD_PER_MTOK}", output_usd_per_mtok = "{OUTPUT_USD_PER_MTOK}"'
    entry = f'model = "{MODEL}", {price}, context_tokens = {CONTEXT_TOKENS}'
    entry += ', fallbacks = ["spare"]' if spare else ""
    lines = [f"{tier} = {{ {entry} }}" for tier in tiers]
    if spare:
        price = f'input_usd_per_mtok = "{spare}", output_usd_per_mtok = "{spare}"'
        lines.append(f'spare = {{ model = "{SPARE}", {price}, context_tokens = {CONTEXT_TOKENS} }}')
    tables = [f"[providers.{wire}]\n" + "\n".join(lines) + "\n" for wire in ("openai", "anthropic")]
    return f"[resilience]\n{resilience}\n" + "\n".join(tables)


def final(answer: str = "All is well.", mood: str = "calm") -> Reply:
    """The probe's typed answer, which ends its run."""
    return calls("final_result", {"answer": answer, "mood": mood}, f"call_answer_{uuid4().hex[:6]}")


@dataclass
class World:
    service: Service
    model: Provider
    effects: Effects
    sink: Sink
    clock: Clock
    canaries: Canaries
    config: Path
    names: Path  # what `*.rig.test` resolves to, see gates/rig/names.py
    wire: Wire = "openai"

    def people(self, *roles: Sequence[str]) -> list[Person]:
        return self.service.people(*roles)

    def run(self, who: Person, *answers: Answer, until: Sequence[str] = ("succeeded", "failed"), **more: Any) -> "Ran":
        """Start a run of the probe that follows a script, and wait for one of these states."""
        started = self.start(who, *answers, **more)
        return self.settled(who, started, until)

    def start(self, who: Person, *answers: Answer, feature: str = "probe", **more: Any) -> "Ran":
        script = self.model.script(*answers)
        answer = self.service.start_run(who, script.task(), feature=feature, **more)
        return Ran(answer, script, answer.json() if answer.status_code == 202 else {})

    def settled(self, who: Person, ran: "Ran", until: Sequence[str] = ("succeeded", "failed")) -> "Ran":
        if ran.answer.status_code == 202:
            ran.state = self.service.run_until(who, ran.id, *until)
        return ran

    def ended(self, run_id: str) -> str:
        """Wait for the end of a run whose owner may no longer ask; returns its state."""

        def look() -> str | None:
            [(state,)] = self.sql("SELECT state FROM runs WHERE id = ?", run_id)
            return str(state) if state in {"succeeded", "failed", "cancelled"} else None

        return wait_for(look)

    def effects_of(self, ran: "Ran") -> list[Effect]:
        return self.effects.of(ran.id) if ran.state else []

    def question(self, approver: Person, ran: "Ran") -> Any:
        """The one open question of a run."""
        return wait_for(lambda: self.service.pending(approver, ran.id))[0]

    def spent(self, who: Person) -> Decimal:
        """What this person's tenant has spent, by the service's own account."""
        return Decimal(self.service.call(who, "GET", "/v1/usage").json()["cost_usd"])

    @staticmethod
    def price(tokens: tuple[int, int]) -> Decimal:
        """The price of one call as the provider would bill it, before rounding."""
        return (tokens[0] * Decimal(INPUT_USD_PER_MTOK) + tokens[1] * Decimal(OUTPUT_USD_PER_MTOK)) / 1_000_000

    def sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Straight at the service's store, behind its back. Parameters as `?`."""
        url = self.owner_url
        if not url.startswith("sqlite"):
            with psycopg.connect(url, autocommit=True) as connection:
                done = connection.execute(statement.replace("?", "%s").encode(), parameters)
                return done.fetchall() if done.description else []
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=REQUEST_SECONDS)) as file, file:
            return file.execute(statement, parameters).fetchall()

    @property
    def owner_url(self) -> str:
        """The service's database as its owner: of SQLite the same."""
        return owner_of(self.service.database_url)

    def command(
        self, *arguments: str, timeout: float = REQUEST_SECONDS, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the service's, with its configuration and these settings instead of its own."""
        environment = {**os.environ, **self.service.environment, "DATABASE_URL": self.service.database_url}
        environment |= {"ENVIRONMENT": "test", "PORT": "0", "OPERATIONS_PORT": "0", **settings}
        command = [sys.executable, "-m", "gates.rig.serve", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)

    def link(self, who: Person, issuer_url: str, subject: str = "") -> str:
        """Link somebody to a subject of the provider, as its operator would; returns the subject."""
        subject = subject or f"subject-{who.member_id}"
        self.sql("UPDATE members SET issuer = ?, subject = ? WHERE id = ?", issuer_url, subject, who.member_id)
        return subject

    def store(self) -> bytes:
        """Everything the service has written to its database, as bytes."""
        path = Path(self.service.database_url.removeprefix("sqlite:///"))
        return b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))

    @contextmanager
    def console(self, who: Person) -> Iterator[httpx2.Response]:
        """The console's first page as this person sees it."""
        address, patient = self.service.base_url, REQUEST_SECONDS
        with httpx2.Client(base_url=address, **PLAIN, follow_redirects=True, timeout=patient) as browser:
            yield browser.post("/console/sign-in", data={"key": who.key})

    def resolves(self, names: dict[str, list[str]]) -> None:
        """What names of the rig resolve to from now on, lookup after lookup."""
        self.names.write_text(json.dumps(names))

    def lookups(self, name: str) -> int:
        """How often the service has looked a name of the rig up."""
        asked = self.names.with_suffix(".asked")
        return asked.read_text().splitlines().count(name) if asked.exists() else 0

    @property
    def files_read(self) -> int:
        """How many processes the service has started so far to read a file."""
        started = processes.commands(self.names.with_suffix(".processes"))
        return sum(any(word.endswith("reader.py") for word in command) for command in started)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Somebody else keeps the database file to themselves until the block ends."""
        path = self.service.database_url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, timeout=REQUEST_SECONDS, isolation_level=None)) as file:
            file.execute("BEGIN IMMEDIATE")
            yield
            file.execute("ROLLBACK")

    @contextmanager
    def broken(self, table: str) -> Iterator[None]:
        """The store of one kind of record is gone until the block ends."""
        self.sql(f"ALTER TABLE {table} RENAME TO {table}_gone")
        try:
            yield
        finally:
            self.sql(f"ALTER TABLE {table}_gone RENAME TO {table}")


@dataclass
class Ran:
    """A run as its owner sees it: the answer to its start, its script, and its state once it was awaited."""

    answer: httpx2.Response
    script: Script
    state: dict[str, Any]

    @property
    def id(self) -> str:
        return str(self.state.get("id", ""))


@contextmanager
def opened(
    database_url: str,
    folder: Path,
    *,
    wire: Wire = "openai",
    policy: str = "",
    limits: str = "",
    catalogue: str = "",
    server: ToolServer | None = None,
    **settings: str,
) -> Iterator[World]:
    """A world around a service of its own, with the product's configuration and the rig's additions.

    `policy` takes the place of the product's, `limits` that of how often one may ask, of which a proof has none,
    `catalogue` (see `models`) that of the models; the tools of `server` are pinned and given to the hazard's agent.

    `<SINK>` and `<DSN>` in a setting become the sink's address, and an error tracker's there."""
    home = folder / f"world-{uuid4().hex[:8]}"
    home.mkdir(parents=True)
    config = _config(home / "config", policy, limits, catalogue)
    if server is not None:
        settings |= pinned(config, server)
    canaries = Canaries({name: canary(name) for name in ("provider-key", "session-secret")})
    clock = Clock(home / "clock")
    clock.reset()
    with provider() as model, effects() as happened, sink() as received:
        names = home / "names.json"
        names.write_text("{}")
        environment = {
            "CONFIG_DIR": str(config),
            "MODEL_PROVIDER": wire,
            # The Anthropic SDK adds the version to the path by itself.
            "MODEL_BASE_URL": model.url if wire == "openai" else model.url.removesuffix("/v1"),
            "MODEL_API_KEY": canaries.values["provider-key"],
            "SESSION_SECRET": canaries.values["session-secret"],
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            probe.EFFECTS_URL: happened.url,
            probe.LEAK: " and ".join(canaries.values.values()),
            serve.CLOCK: str(clock.file),
            serve.NAMES: str(names),
            serve.PROCESSES: str(names.with_suffix(".processes")),
            **settings,
        }
        places = {"<SINK>": received.url, "<DSN>": received.url.replace("://", "://public@") + "/1"}
        for name, (place, address) in product(environment, places.items()):
            environment[name] = environment[name].replace(place, address)
        with running(database_url, home, "gates.rig.serve", **environment) as service:
            yield World(service, model, happened, received, clock, canaries, config, names, wire)


def pinned(config: Path, server: ToolServer) -> dict[str, str]:
    """Declare a tool server and pin what it says now; returns the settings that go with it."""
    origin = server.url.removesuffix("/mcp/")
    (config / "tools.toml").write_text(
        f'[servers.rig]\nurl = "{server.url}"\n'
        '[servers.rig.tools.find]\neffect = "read"\npermission = "hazard:run"\n'
        '[servers.rig.tools.note]\neffect = "write"\npermission = "probe:write"\n'
    )
    servers = ToolServers.load(config, {})
    servers.pin("rig", asyncio.run(servers.live("rig", Egress([origin], private_addresses=True))))
    return {hazard.SERVERS: "rig", "EGRESS_ALLOW": json.dumps([origin])}


def _config(folder: Path, policy: str, limits: str, catalogue: str) -> Path:
    """The product's configuration, with the rig's roles and models."""
    source = ROOT / "config"
    shutil.copytree(source, folder)
    if policy:
        (folder / "policy.toml").write_text(policy)
    declared = tomllib.loads((source / "roles.toml").read_text())["roles"] if (source / "roles.toml").exists() else {}
    (folder / "limits.toml").write_text(limits or NO_LIMITS)
    lines = [f"{name} = {json.dumps(granted)}" for name, granted in {**declared, **ROLES}.items()]
    (folder / "roles.toml").write_text("[roles]\n" + "\n".join(lines) + "\n")
    tiers = list(dict.fromkeys(["standard", *_tiers(source / "models.toml")]))
    (folder / "models.toml").write_text(catalogue or models(tiers=tiers))
    return folder


def _tiers(models: Path) -> list[str]:
    """Every tier a feature of the product may name."""
    if not models.exists():
        return []
    providers: dict[str, dict[str, Any]] = tomllib.loads(models.read_text()).get("providers", {})
    return [tier for tiers in providers.values() for tier in tiers]
