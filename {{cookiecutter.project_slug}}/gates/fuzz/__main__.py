"""`make fuzz`: thousands of bodies, headers, queries and paths, for every route, by somebody who may do everything.

No answer is a failure of the service, no error but a form repeats a value that was sent, and no secret is in an answer,
the log, error reports, traces, metrics or the audit trail. What breaks one of these is shrunk to its least. A run in
which a route of the models never answered 2xx shows too little.
"""

import http.client
import json
import socket
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from hypothesis import HealthCheck, Phase, given, seed, settings
from itsdangerous import URLSafeTimedSerializer
from rich.console import Console
from rich.markup import escape

from app.config_files import read_config
from app.console.session import COOKIE
from app.gateway.catalog import ModelsFile
from app.identity.roles import Roles
from app.settings import ROOT
from gates import suites
from gates.fuzz.drawn import CANARY, Drawn, requests
from gates.fuzz.verdict import OF_MODELS, Told, done, leaks, reached, wrong
from gates.matrix.objects import Store, seeded
from gates.rig.canaries import Canaries, canary
from gates.rig.databases import sqlite_databases
from gates.rig.environment import isolate
from gates.rig.issuer import CLIENT, issuer
from gates.rig.people import Person
from gates.rig.provider import says
from gates.rig.routes import all_routes
from gates.rig.vectors import catalogue, vectors
from gates.rig.world import World, opened

REQUESTS = 10_000
USEFUL = 0.5  # of the requests get to a route
CSRF = "c" * 32
# A refusal there is the overview: with the tenant's runs, and with the form as it was filled in.
FORMS = frozenset({f"POST /console/{name}" for name in ("approvals", "unknown/{call_id}", "keys", "key-claims")})
THROWN = {"PUT /v1/switches/{name:path}": "switches", "PUT /v1/budgets": "budget_caps"}  # what would stop the rest
out = Console(highlight=False)


class Wrong(AssertionError):
    """A request was answered as none may be."""


@dataclass
class Fuzz:
    world: World
    who: Person
    secrets: Canaries
    planted: Canaries = field(default_factory=lambda: Canaries({"what was sent": CANARY}))
    sent: Counter[str] = field(default_factory=Counter)
    answered: Counter[int] = field(default_factory=Counter)
    by_route: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    least: tuple[Drawn, str] | None = None  # the least request that broke something, and how
    line: socket.socket | None = None
    read: int = 0  # of the log

    def ask(self, drawn: Drawn) -> None:
        told = self._told(self._signed_in(drawn))
        self.sent[drawn.route] += 1
        self.answered[told.status] += 1
        self.by_route[drawn.route][told.status] += 1
        if told.status < 300 and drawn.route in THROWN:
            self.world.sql(f"DELETE FROM {THROWN[drawn.route]}")
        if what := wrong(told, self.planted, self.secrets, self._written()):
            self.least = drawn, what
            raise Wrong(what)

    def _signed_in(self, drawn: Drawn) -> Drawn:
        """With the credential that its route takes; a drawn one stays beside it, to be told apart by the service."""
        body = drawn.body.replace(b"%3Ccsrf%3E", CSRF.encode())
        length = (b"Content-Length", str(len(body)).encode())
        if drawn.path.startswith("/console"):
            signer = URLSafeTimedSerializer(self.world.canaries.values["session-secret"], salt="console")
            value = signer.dumps(
                {"member": self.who.member_id, "key": self.who.principal.key_id, "csrf": CSRF, "started": time.time()}
            )
            credential = (b"Cookie", f"{COOKIE}={value}".encode())
        else:
            credential = (b"Authorization", f"Bearer {self.who.key}".encode())
        headers = (*drawn.headers, credential, length)
        return replace(drawn, headers=headers, body=body)

    def _told(self, drawn: Drawn) -> Told:
        """Over the connection that is open, or a new one where that has been closed meanwhile."""
        fresh = self.line is None
        try:
            return self._exchanged(drawn)
        except (OSError, http.client.HTTPException) as error:
            self._close()
            if fresh or isinstance(error, TimeoutError):
                return Told(599 if isinstance(error, TimeoutError) else 0)
            return self._told(drawn)

    def _exchanged(self, drawn: Drawn) -> Told:
        if self.line is None:
            self.line = socket.create_connection(("127.0.0.1", self.world.service.port), timeout=300)
        self.line.sendall(drawn.head() + drawn.body)
        answer = http.client.HTTPResponse(self.line, method=drawn.method)
        answer.begin()
        kind = answer.getheader("content-type") or ""
        streams = "event-stream" in kind
        body = b"" if streams else answer.read()
        if streams or answer.will_close:
            self._close()
        gives_back = drawn.route in FORMS and kind.startswith("text/html")
        return Told(answer.status, str(answer.headers).encode(), body, gives_back)

    def _close(self) -> None:
        if self.line is not None:
            self.line.close()
        self.line = None

    def _written(self) -> bytes:
        with self.world.service.log.open("rb") as log:
            log.seek(self.read)
            written = log.read()
        self.read += len(written)
        return written

    def sinks(self) -> dict[str, bytes]:
        """Everything that the service has written or sent anywhere, once it has ended."""
        metrics = self.world.service.operations("/metrics").content
        self.world.service.stop()
        records = self.world.sql("SELECT actor, action, subject, data FROM audit_events")
        hits = [hit.path.encode() + repr(hit.headers).encode() + hit.body for hit in self.world.sink.hits]
        return {
            "the log": self.world.service.log.read_bytes(),
            "error reports and traces": b"\n".join(hits),
            "the metrics": metrics,
            "the audit trail": json.dumps([list(map(str, record)) for record in records]).encode(),
        }

    def handled(self) -> list[dict[str, Any]]:
        lines = (line for line in self.world.service.log.read_text().splitlines() if '"event": "request"' in line)
        return [json.loads(line) for line in lines]


def main(
    count: Annotated[int, typer.Option("--requests", min=1, help="How many.")] = REQUESTS,
    number: Annotated[int, typer.Option("--seed", help="The same seed draws the same requests.")] = 1,
) -> None:
    """Send them; exit 1 when one breaks a promise, 2 when too few got far enough to show anything."""
    isolate()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as home, issuer() as provider:
        secret = canary("client-secret")
        pages = {
            "OIDC_CLIENT_ID": CLIENT, "OIDC_CLIENT_SECRET": secret,
            "OIDC_AUTHORIZATION_URL": f"{provider.url}/authorize", "OIDC_TOKEN_URL": f"{provider.url}/token",
            "SENTRY_DSN": "<DSN>", "OTEL_EXPORTER_OTLP_ENDPOINT": "<SINK>",
        }  # fmt: skip
        told: dict[str, Any] = {**provider.settings, **pages, "EMBEDDED_WORKER": "false", "LOG_LEVEL": "debug"}
        with sqlite_databases(Path(home)) as new, _opened(new(), Path(home), told) as world:
            fuzz = _everybody(world, secret)
            what = _play(fuzz, count, number)
            leaked = leaks(fuzz.sinks(), fuzz.secrets)
            handled = fuzz.handled()
    problems = [*([what] if what else []), *leaked]
    held, share = not problems, reached(handled) / max(1, len(handled))
    answered = done(fuzz.by_route, OF_MODELS)
    never = [name for name, count in answered.items() if not count]
    useful = share > USEFUL and not never
    _show(fuzz, share)
    suites.keep(
        suites.FUZZ, ok=held and useful, complete=count >= REQUESTS, requests=fuzz.sent.total(), seed=number,
        statuses={str(status): found for status, found in sorted(fuzz.answered.items())}, reached=round(share, 3),
        done=answered, problems=problems,
    )  # fmt: skip
    for problem in problems:
        out.print(f"[red]✘[/] {escape(problem)}", soft_wrap=True)
    verdict, seconds = "[green]HOLDS[/]" if held else "[red]BROKEN[/]", time.monotonic() - began
    out.print(f"{fuzz.sent.total():,} requests: {verdict} in {seconds:.0f} s")
    if held and not useful:
        missing = f"; never answered 2xx: {', '.join(never)}" if never else ""
        print(f"{share:.0%} of the requests reached a route{missing}: this shows too little.", file=sys.stderr)
        raise SystemExit(2)
    raise SystemExit(0 if held else 1)


@contextmanager
def _opened(database_url: str, home: Path, told: dict[str, Any]) -> Iterator[World]:
    """A world whose models answer chats and embeddings."""
    declared = read_config(ROOT / "config" / "models.toml", ModelsFile).providers.values()
    tiers = list(dict.fromkeys(["standard", *(tier for tiers in declared for tier in tiers)]))
    with opened(database_url, home, catalogue=catalogue(tiers=tiers), **told) as world:
        world.model.answers_each(lambda body: says("Something.") if "messages" in body else vectors(body))
        yield world


def _everybody(world: World, secret: str) -> Fuzz:
    """Somebody with every role there is."""
    [who] = world.people(Roles.load(world.config / "roles.toml").names)
    secrets = {"the credential": who.key.split("_", 3)[3], "the client's secret": secret, **world.canaries.values}
    return Fuzz(world, who, Canaries(secrets))


def _play(fuzz: Fuzz, count: int, number: int) -> str:
    """Draw and send; what broke, with the least request that does it, or nothing."""
    known = {**seeded(Store.at(fuzz.world.owner_url), fuzz.who.tenant_id), "role": "viewer", "another": "viewer"}
    strategy = requests(all_routes(), known)

    @seed(number)
    @settings(
        max_examples=count, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck), report_multiple_bugs=False, print_blob=False,
    )  # fmt: skip
    @given(strategy)
    def ask(drawn: Drawn) -> None:
        fuzz.ask(drawn)

    try:
        ask()
    except Wrong:
        assert fuzz.least is not None
        drawn, what = fuzz.least
        return f"{what}\n  to {drawn.head()[:1_000]!r}\n  with {drawn.body[:1_000]!r}"
    return ""


def _show(fuzz: Fuzz, share: float) -> None:
    for name, sent in sorted(fuzz.sent.items()):
        seen = " ".join(f"{status}: {count}" for status, count in sorted(fuzz.by_route[name].items()))
        out.print(f"{sent:6,} {escape(name):44} [dim]{seen}[/]", soft_wrap=True)
    total = max(1, fuzz.sent.total())
    by_class = Counter(f"{status // 100}xx" if status else "no answer" for status in fuzz.answered.elements())
    out.print(" · ".join(f"{name}: {count:,}" for name, count in sorted(by_class.items())))
    answered = " · ".join(f"{name}: {count:,}" for name, count in done(fuzz.by_route, OF_MODELS).items())
    out.print(f"answered 2xx: {escape(answered)}", soft_wrap=True)
    out.print(f"{share:.0%} got to a route's own checks or beyond, {by_class['2xx'] / total:.0%} were done")


if __name__ == "__main__":
    typer.run(main)
