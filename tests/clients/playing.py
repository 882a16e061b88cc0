"""A file of scenarios is run as a process of its own; what it tells of each, as a line of JSON, becomes a table."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

SECONDS = 1_800  # of a client: it ends what hangs


@dataclass(frozen=True)
class Result:
    client: str
    scenario: str
    ok: bool
    told: str = ""


def isolated(packages: Sequence[str], *arguments: str) -> list[str]:
    """What runs Python with these packages alone, in an environment of its own that is made for it."""
    added = [part for package in packages for part in ("--with", package)]
    return ["uv", "run", "--quiet", "--isolated", "--no-project", *added, "python", *arguments]


def play(name: str, command: Sequence[str], environment: dict[str, str], console: Console) -> list[Result]:
    """How each scenario ended, in order; a process that breaks off is a scenario that did not hold."""
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"scenario"')]
    results = [Result(name, line["scenario"], line["ok"], line.get("told", "")) for line in lines]
    if done.returncode or not results:
        results.append(Result(name, "to the end", ok=False, told=(done.stderr or done.stdout).strip()[-400:]))
    for each in results:
        console.print(f"  {'✔' if each.ok else '✘'} {each.client}: {each.scenario} {each.told}", markup=False)
    return results


def show(results: Sequence[Result], missing: Sequence[str], console: Console) -> None:
    table = Table("client", "held", "did not", box=None)
    for name in dict.fromkeys(each.client for each in results):
        mine = [each for each in results if each.client == name]
        failed = ", ".join(each.scenario for each in mine if not each.ok)
        table.add_row(name, f"{sum(each.ok for each in mine)} of {len(mine)}", failed)
    console.print(table)
    for each in missing:
        console.print(f"NOT RUN {each}")
    console.print(f"{sum(each.ok for each in results)} of {len(results)} scenarios hold.")
