"""Measure the guarded chat interface beside a bare proxy, in one run, and print ratios: `make benchmarks`.

The provider answers at once, so that what is left is what this side does; the servers have one core and the load
another, where there are two. Rounds alternate, the quietest counts. Times are of this machine; ratios carry over.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import psutil
import typer
from rich.console import Console
from rich.table import Table

from app.settings import ROOT
from benchmarks.guarded.load import Measured, measured
from gates.rig.databases import NewDatabase, postgres_databases, sqlite_databases
from gates.rig.environment import isolate
from gates.rig.service import free_ports, running, wait_for
from gates.rig.world import NO_LIMITS, models

CONNECTIONS = (1, 16, 64)
SLOW_MS = 50
PROCESSES = 4
CAPS = '[caps]\nglobal_daily_usd = "1000000"\ntenant_monthly_usd = "1000000"\nmember_daily_usd = "1000000"\n'
BODY = json.dumps(
    {"model": "standard", "messages": [{"role": "user", "content": "What is the time in Lisbon?"}], "temperature": 0.7}
)  # a temperature, so that no answer is given again
out = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


@dataclass(frozen=True)
class Target:
    name: str
    port: int
    request: bytes
    pid: int


def main(
    seconds: Annotated[float, typer.Option(min=0.5, help="Of each round.")] = 5.0,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
) -> None:
    """Compare a bare proxy with the service on SQLite and PostgreSQL; then time its guards and its ledger."""
    isolate()
    with tempfile.TemporaryDirectory(prefix="guarded-") as folder, ExitStack() as stack:
        home = Path(folder)
        home.chmod(0o755)
        stores = {
            "SQLite": stack.enter_context(sqlite_databases(home / "databases")),
            "PostgreSQL": stack.enter_context(postgres_databases()),
        }
        for delay_ms, connections in ((0, CONNECTIONS), (SLOW_MS, (1,))):
            with ExitStack() as servers:
                upstream = servers.enter_context(_python("benchmarks.guarded.upstream", delay_ms))
                targets = [servers.enter_context(_bare(upstream))]
                targets += [servers.enter_context(_guarded(n, new, home, upstream)) for n, new in stores.items()]
                _compare(targets, delay_ms, connections, seconds, rounds)
                if not delay_ms:
                    for target in targets:
                        memory = psutil.Process(target.pid).memory_info().rss / 1e6
                        out.print(f"  {target.name}: {memory:.0f} MB resident after all of it")
        for name, new in stores.items():
            _guards(name, new, home, seconds)
            _hot_tenant(name, new, home, seconds)


def _compare(targets: list[Target], delay_ms: int, connections: tuple[int, ...], seconds: float, rounds: int) -> None:
    out.print(f"\nA provider that takes {delay_ms} ms:")
    table = Table("connections", "target", "of bare", "added p50 ms", "added p95 ms", "answers/s here", box=None)
    for count in connections:
        seen: dict[str, list[Measured]] = {}
        for number in range(rounds):
            for target in targets if number % 2 == 0 else targets[::-1]:
                measured(target.port, target.request, count, 0.3)  # warm
                seen.setdefault(target.name, []).append(measured(target.port, target.request, count, seconds))
        best = {name: max(each, key=lambda one: one.rate) for name, each in seen.items()}
        bare = best["bare"]
        for name, one in best.items():
            added = f"{one.p50_ms - bare.p50_ms:+.2f}", f"{one.p95_ms - bare.p95_ms:+.2f}"
            table.add_row(str(count), name, f"{one.rate / bare.rate:.0%}", *added, f"{one.rate:.0f}")
            if any(each.failed for each in seen[name]):
                raise SystemExit(f"{name} refused some: this run shows nothing")
    out.print(table)


@contextmanager
def _python(module: str, delay_ms: int = 0, **environment: str) -> Iterator[str]:
    """A process of ours that listens; its address."""
    [port] = free_ports(1)
    with _process(module, port, DELAY_MS=str(delay_ms), **environment):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _process(module: str, port: int, **environment: str) -> Iterator[int]:
    told = {**os.environ, "PORT": str(port), "PYTHONPATH": str(ROOT), **environment}
    process = subprocess.Popen([sys.executable, "-m", module], env=told)
    try:
        wait_for(lambda: _listens(process, port))
        yield process.pid
    finally:
        process.terminate()
        process.wait(10)


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    if process.poll() is not None:
        raise SystemExit(f"{process.args!r} ended by itself")
    connections = psutil.Process(process.pid).net_connections(kind="tcp")
    return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in connections)


def _request(port: int, key: str = "") -> bytes:
    lines = ["POST /v1/chat/completions HTTP/1.1", f"Host: 127.0.0.1:{port}", "Content-Type: application/json"]
    lines += [f"Authorization: Bearer {key}"] if key else []
    return "\r\n".join([*lines, f"Content-Length: {len(BODY)}", "", BODY]).encode()


@contextmanager
def _bare(upstream: str) -> Iterator[Target]:
    [port] = free_ports(1)
    with _process("benchmarks.guarded.bare", port, UPSTREAM=f"{upstream}/v1") as pid:
        _to_core(pid, 0)
        yield Target("bare", port, _request(port), pid)


@contextmanager
def _guarded(
    name: str, new: NewDatabase, home: Path, upstream: str, module: str = "app", **more: str
) -> Iterator[Target]:
    config = shutil.copytree(ROOT / "config", home / f"config-{uuid4().hex[:6]}")
    (config / "limits.toml").write_text(NO_LIMITS)
    (config / "budgets.toml").write_text(CAPS)
    (config / "models.toml").write_text(models())
    settings = {
        "CONFIG_DIR": str(config), "MODEL_PROVIDER": "openai", "MODEL_BASE_URL": f"{upstream}/v1",
        "MODEL_API_KEY": "none", "LOG_LEVEL": "warning", "PYTHONPATH": str(ROOT), **more,
    }  # fmt: skip
    with running(new(), home, module, **settings) as service:
        [who] = service.people(["member"])
        process = service.process
        if process is None:
            raise SystemExit(f"{name} ended by itself")
        _to_core(process.pid, 0)
        yield Target(f"guarded, {name}", service.port, _request(service.port, who.key), process.pid)


def _to_core(pid: int, core: int) -> None:
    """Servers share one core and the load has the other, where there are two."""
    if (os.cpu_count() or 1) > 1:
        psutil.Process(pid).cpu_affinity([core])
        psutil.Process().cpu_affinity([1])


def _guards(name: str, new: NewDatabase, home: Path, seconds: float) -> None:
    """Where the time of one request at a time goes."""
    told = home / f"guards-{name}.json"
    with (
        _python("benchmarks.guarded.upstream") as upstream,
        _guarded(name, new, home, upstream, "benchmarks.guarded.serve", GUARDS_FILE=str(told)) as target,
    ):
        one = measured(target.port, target.request, 1, seconds)
    spent = json.loads(told.read_text())
    out.print(f"\nOne request at a time on {name}, p50 {one.p50_ms:.2f} ms; of these, on average:")
    table = Table("guard", "ms", "of the whole", box=None)
    for guard, each in sorted(spent.items(), key=lambda item: -item[1]["ms"]):
        table.add_row(guard, f"{each['ms']:.2f}", f"{each['ms'] / one.p50_ms:.0%}")
    out.print(table)


def _hot_tenant(name: str, new: NewDatabase, home: Path, seconds: float) -> None:
    """Holds and settlements of one tenant by several processes at once."""
    url, config = new(), home / f"config-{uuid4().hex[:6]}"
    shutil.copytree(ROOT / "config", config)
    (config / "budgets.toml").write_text(CAPS)
    command = [sys.executable, "-m", "benchmarks.guarded.hot", url, str(config), str(seconds)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    crowd = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)]
    pairs = [int(each.communicate(timeout=seconds + 60)[0]) for each in crowd]
    rate = sum(pairs) / seconds
    out.print(f"\nOne hot tenant on {name}, {PROCESSES} processes: {rate:.0f} holds with their settlements a second")


if __name__ == "__main__":
    typer.run(main)
