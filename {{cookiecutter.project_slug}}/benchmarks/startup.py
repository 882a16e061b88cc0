"""Measure the CPU time of a start, beside that of a reference, and print ratios: part of `make benchmarks`.

The reference imports two libraries that every service of this kind stands on. Rounds alternate, the cheapest counts.
Times are of this machine; ratios carry over. What is imported when, and why:
docs/decisions/template/0022-imports-where-they-are-used.md.
"""

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.table import Table

from app.settings import ROOT
from gates.rig.databases import sqlite_databases
from gates.rig.environment import isolate
from gates.rig.service import Service

REFERENCE = "import fastapi, sqlalchemy"
GOAL_S = {"app --help": 0.6, "app serve, until ready": 1.8}
out = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def main(rounds: Annotated[int, typer.Option(min=1)] = 5) -> None:
    """Compare the reference, `app --help` and `app serve` until it is ready, on SQLite and the offline model."""
    isolate()
    with tempfile.TemporaryDirectory(prefix="startup-") as folder, sqlite_databases(Path(folder) / "databases") as new:
        # Compiled once, as an installed service is; otherwise every start would compile the service's own code.
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        database_url, log = new(), Path(folder) / "log"
        targets: dict[str, Callable[[], float]] = {
            "the reference": lambda: _spent("-c", REFERENCE),
            "app --help": lambda: _spent("-m", "app", "--help"),
            "app serve, until ready": lambda: _until_ready(database_url, log),
        }
        for measure in targets.values():
            measure()  # warm
        seen: dict[str, list[float]] = {name: [] for name in targets}
        for _ in range(rounds):
            for name, measure in targets.items():
                seen[name].append(measure())
    best = {name: min(each) for name, each in seen.items()}
    table = Table("start", "CPU s here", "times the reference", "goal s", box=None)
    for name, spent in best.items():
        goal = GOAL_S.get(name)
        met = "-" if goal is None else f"{'met' if spent <= goal else 'MISSED'} ≤ {goal}"
        table.add_row(name, f"{spent:.2f}", f"{spent / best['the reference']:.2f}", met)
    out.print(table)


def _spent(*arguments: str) -> float:
    """CPU seconds of a process from its start to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _until_ready(database_url: str, log: Path) -> float:
    """CPU seconds of `app serve` from its start to its first answer that it is ready."""
    service = Service(database_url, log)
    service.start()
    try:
        assert service.process is not None  # noqa: S101 - it has just started
        times = psutil.Process(service.process.pid).cpu_times()
        return times.user + times.system
    finally:
        service.stop()


if __name__ == "__main__":
    typer.run(main)
