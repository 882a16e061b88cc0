"""Measure the guarded chat interface beside a bare proxy, in one run, and print ratios: part of `make benchmarks`.

The provider answers at once, so that what is left is what this side does; the servers have one core and the load
another, where there are two. Rounds alternate, the quietest counts. Times are of this machine; ratios carry over.
Goals, and what misses them and why: docs/decisions/template/0020-what-the-guards-cost.md.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from app.bootstrap import open_runtime
from app.entrypoints.proxies import exempt_loopback
from app.settings import ROOT, load_settings
from benchmarks.guarded import targets
from benchmarks.guarded.load import Measured, measured
from benchmarks.guarded.targets import Target
from gates.rig import people
from gates.rig.databases import NewDatabase, postgres_databases, sqlite_databases
from gates.rig.environment import isolate

CONNECTIONS = (1, 16, 64)
SLOW_MS = 50
PROCESSES = 4
out = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


@dataclass(frozen=True)
class Goal:
    """What a target should keep of the bare proxy's throughput, and what it may add to a slow provider's answer."""

    of_bare: float
    p50_ms: float
    p95_ms: float
    pairs: int = 0  # holds with their settlements a second


GOALS = {"guarded, SQLite": Goal(0.65, 1.0, 2.5), "guarded, PostgreSQL": Goal(0.60, 2.6, 4.5, 5_000)}
LITELLM_TIMES, RESIDENT_MB = 10, 150


def main(
    seconds: Annotated[float, typer.Option(min=0.5, help="Of each round.")] = 4.0,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    litellm: Annotated[bool, typer.Option(help="Beside LiteLLM's proxy as well: uv downloads it.")] = True,
) -> None:
    """Compare a bare proxy, the service on SQLite and PostgreSQL, and LiteLLM; then time its guards and its ledger."""
    isolate()
    exempt_loopback()
    with tempfile.TemporaryDirectory(prefix="guarded-") as folder, ExitStack() as stack:
        home = Path(folder)
        home.chmod(0o755)
        stores = {
            "SQLite": stack.enter_context(sqlite_databases(home / "databases")),
            "PostgreSQL": stack.enter_context(postgres_databases()),
        }
        targets.to_core(os.getpid(), 1)
        with ExitStack() as servers:
            provider = servers.enter_context(targets.upstream())
            compared = [servers.enter_context(targets.bare(provider))]
            compared += [servers.enter_context(targets.guarded(n, new, home, provider)) for n, new in stores.items()]
            if litellm:
                compared.append(servers.enter_context(targets.litellm(home, provider)))
            _throughput(compared, seconds, rounds)
        with ExitStack() as servers:
            provider = servers.enter_context(targets.upstream(SLOW_MS))
            compared = [servers.enter_context(targets.bare(provider))]
            compared += [servers.enter_context(targets.guarded(n, new, home, provider)) for n, new in stores.items()]
            _added(compared, seconds, rounds)
        for name, new in stores.items():
            _guards(name, new, home, seconds)
            _hot_tenant(name, new, home, seconds)


def _best(compared: list[Target], connections: int, seconds: float, rounds: int) -> dict[str, Measured]:
    seen: dict[str, list[Measured]] = {}
    for number in range(rounds):
        for target in compared if number % 2 == 0 else compared[::-1]:
            measured(target.port, target.request, connections, 0.3)  # warm
            seen.setdefault(target.name, []).append(measured(target.port, target.request, connections, seconds))
    for name, each in seen.items():
        if any(one.failed for one in each):
            raise SystemExit(f"{name} refused some: this run shows nothing")
    return {name: max(each, key=lambda one: one.rate) for name, each in seen.items()}


def _throughput(compared: list[Target], seconds: float, rounds: int) -> None:
    out.print("\nA provider that answers at once:")
    table = Table("connections", "target", "of bare", "goal", "times LiteLLM", "answers/s here", box=None)
    for count in CONNECTIONS:
        best = _best(compared, count, seconds, rounds)
        for name, one in best.items():
            kept = one.rate / best["bare"].rate
            goal = times = "-"
            if name in GOALS and count > 1:
                goal = f"{_met(kept >= GOALS[name].of_bare)} ≥ {GOALS[name].of_bare:.0%}"
            if name in GOALS and "LiteLLM" in best:
                factor = one.rate / best["LiteLLM"].rate
                times = f"{factor:.1f}, {_met(factor >= LITELLM_TIMES)} ≥ {LITELLM_TIMES}"
            table.add_row(str(count), name, f"{kept:.0%}", goal, times, f"{one.rate:.0f}")
    out.print(table)
    for target in compared:
        goal = f", goal {_met(target.resident_mb <= RESIDENT_MB)} ≤ {RESIDENT_MB}" if target.name in GOALS else ""
        out.print(f"  {target.name}: {target.resident_mb:.0f} MB resident after all of it{goal}")


def _met(is_met: bool) -> str:
    return "met" if is_met else "MISSED"


def _added(compared: list[Target], seconds: float, rounds: int) -> None:
    out.print(f"\nA provider that takes {SLOW_MS} ms, one connection; added to the bare proxy:")
    best = _best(compared, 1, seconds, rounds)
    table = Table("target", "p50 ms", "goal", "p95 ms", "goal", box=None)
    for name, goal in GOALS.items():
        p50, p95 = best[name].p50_ms - best["bare"].p50_ms, best[name].p95_ms - best["bare"].p95_ms
        goals = f"{_met(p50 <= goal.p50_ms)} ≤ {goal.p50_ms}", f"{_met(p95 <= goal.p95_ms)} ≤ {goal.p95_ms}"
        table.add_row(name, f"{p50:+.2f}", goals[0], f"{p95:+.2f}", goals[1])
    out.print(table)


def _guards(name: str, new: NewDatabase, home: Path, seconds: float) -> None:
    """Where the time of one request at a time goes."""
    told = home / f"guards-{name}.json"
    module, file = "benchmarks.guarded.serve", {"GUARDS_FILE": str(told)}
    with targets.upstream() as provider, targets.guarded(name, new, home, provider, module, **file) as target:
        one = measured(target.port, target.request, 1, seconds)
    spent = json.loads(told.read_text())
    out.print(f"\nOne request at a time on {name}, p50 {one.p50_ms:.2f} ms; of these, on average (some within others):")
    table = Table("guard", "ms", "of the whole", box=None)
    for guard, each in sorted(spent.items(), key=lambda item: -item[1]["ms"]):
        table.add_row(guard, f"{each['ms']:.2f}", f"{each['ms'] / one.p50_ms:.0%}")
    out.print(table)


def _hot_tenant(name: str, new: NewDatabase, home: Path, seconds: float) -> None:
    """Holds and settlements of one tenant by several processes at once: a run's, and a chat's with their record."""
    url, config = new(), targets.config(home)
    tenant_id = asyncio.run(_tenant(url, config))
    goal = GOALS[f"guarded, {name}"].pairs
    for what, run_id in (("of a run", "a-run"), ("of chats, on record", "")):
        given = [url, str(config), str(seconds), tenant_id, run_id]
        rate = _rate([sys.executable, "-m", "benchmarks.guarded.hot", *given], seconds)
        told = f"{rate:.0f} holds with their settlements a second"
        out.print(
            f"\nOne hot tenant on {name}, {PROCESSES} processes: {told} {what}"
            f"{f', goal {_met(rate >= goal)} ≥ {goal}' if goal else ''}"
        )


async def _tenant(url: str, config: Path) -> str:
    settings = load_settings(database_url=url, environment="test", config_dir=config)
    async with open_runtime(settings, durable=False) as runtime:
        return await people.tenant(runtime)


def _rate(command: list[str], seconds: float) -> float:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    crowd = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)]
    for each in crowd:
        targets.to_core(each.pid, crowd.index(each) % 2)
    return sum(int(each.communicate(timeout=seconds + 60)[0]) for each in crowd) / seconds


if __name__ == "__main__":
    typer.run(main)
