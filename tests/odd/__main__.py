"""`make test-odd`: a generated service on machines as people have them. ONLY=ipv6,git picks scenarios.

Red where one does not hold. What needs something that a machine has not got is listed as NOT RUN, which is no success:
with STRICT=1 it is red as well.
"""

import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.odd.bench import Bench, ScenarioError, UnavailableError
from tests.odd.scenarios import SCENARIOS

console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


def main(only: str) -> int:
    names = [name.strip() for name in only.split(",") if name.strip()] or list(SCENARIOS)
    if unknown := [name for name in names if name not in SCENARIOS]:
        console.print(f"no scenario {', '.join(unknown)}; choose from {', '.join(SCENARIOS)}")
        return 2
    table = Table("scenario", "verdict", "seconds", "what ran, or why it did not", box=None)
    verdicts = []
    with tempfile.TemporaryDirectory(prefix="odd-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL, which does not run as root, must reach its programs below it
        bench = Bench(Path(folder))
        for name in names:
            began = time.monotonic()
            verdict, words = _judged(name, bench)
            verdicts.append(verdict)
            table.add_row(name, verdict, f"{time.monotonic() - began:.0f}", words)
            print(f"{name}: {verdict}", flush=True)
    console.print(table)
    counts = {verdict: verdicts.count(verdict) for verdict in ("ok", "red", "NOT RUN")}
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    strict = os.environ.get("STRICT", "") not in {"", "0"}
    return 1 if counts["red"] or not counts["ok"] or (strict and counts["NOT RUN"]) else 0


def _judged(name: str, bench: Bench) -> tuple[str, str]:
    try:
        return "ok", SCENARIOS[name](bench)
    except UnavailableError as reason:
        return "NOT RUN", str(reason)
    except ScenarioError as failure:
        print(f"\n--- {name} ---\n{failure}\n", flush=True)
        return "red", str(failure).partition("\n")[0][:90]
    except Exception as crash:  # noqa: BLE001 - the other scenarios are still to be judged
        traceback.print_exception(crash)
        return "red", f"the scenario itself broke: {type(crash).__name__}"


if __name__ == "__main__":
    sys.exit(main(",".join(sys.argv[1:])))
