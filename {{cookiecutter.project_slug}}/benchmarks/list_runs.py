"""What a page of runs costs when each holds all that it may: `python -m benchmarks.list_runs`.

200 runs of five 100 kB documents and 700 kB of history, as `GET /v1/runs?limit=200` reads and answers them.
"""

import asyncio
import gc
import json
import tempfile
import time
import tracemalloc

import sqlalchemy as sa
from rich.console import Console

from app.api.pagination import Page
from app.api.runs import RunView
from app.bootstrap import open_runtime
from app.entrypoints.schema import migrate
from app.identity.principal import Principal
from app.runs.intake import RunRequest
from app.runs.models import Run
from app.runtime import Runtime
from app.settings import load_settings

RUNS, DOCUMENTS, DOCUMENT, HISTORY = 200, 5, 100_000, 700_000  # characters
MAX_MIB, MAX_CPU_MS = 10, 50
ROUNDS = 5


async def filled(runtime: Runtime) -> Principal:
    """A member whose tenant has these runs."""
    tenant_id = await runtime.members.create_tenant("benchmark", "benchmark")
    member_id = await runtime.members.add(tenant_id, "member", ["member"], "benchmark")
    caller = await runtime.directory.principal_of(tenant_id, member_id)
    feature = next(iter(runtime.features))
    for number in range(RUNS):
        await runtime.intake.start(caller, RunRequest(feature, "a task", ()), f"key-{number}")
    documents = json.dumps([{"name": f"{number}.txt", "text": "x" * DOCUMENT} for number in range(DOCUMENTS)])
    fill = sa.text("UPDATE run_contents SET documents = :documents, history = :history")
    values = {"documents": documents, "history": "y" * HISTORY}
    await runtime.db.at_once(lambda connection: connection.execute(fill, values))
    return caller


async def page(runtime: Runtime, caller: Principal) -> int:
    """One page as the route makes it; returns the bytes of the answer."""
    runs: list[Run] = list(await runtime.intake.page(caller, before=None, limit=RUNS))
    costs = await runtime.spend.of_runs(caller, [run.id for run in runs])
    items = [RunView.of(run, costs[run.id]) for run in runs]
    return len(Page[RunView](items=items, next=None).model_dump_json())


async def measure() -> int:
    out = Console(highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(database_url=f"sqlite:///{folder}/app.db", environment="test")
        migrate(settings)
        async with open_runtime(settings, durable=False) as runtime:
            caller = await filled(runtime)
            size = await page(runtime, caller)
            cpu = []
            for _ in range(ROUNDS):
                gc.collect()
                began = time.process_time()
                await page(runtime, caller)
                cpu.append((time.process_time() - began) * 1000)
            tracemalloc.start()
            await page(runtime, caller)
            mib = tracemalloc.get_traced_memory()[1] / 2**20
            tracemalloc.stop()
    held = RUNS * (DOCUMENTS * DOCUMENT + HISTORY) / 2**20
    out.print(f"{RUNS} runs that hold {held:.0f} MiB: {mib:.1f} MiB, {min(cpu):.0f} ms of CPU, {size} bytes answered")
    is_over = mib > MAX_MIB or min(cpu) > MAX_CPU_MS
    if is_over:
        out.print(f"[red]More than {MAX_MIB} MiB or {MAX_CPU_MS} ms.[/]")
    return int(is_over)


if __name__ == "__main__":
    raise SystemExit(asyncio.run(measure()))
