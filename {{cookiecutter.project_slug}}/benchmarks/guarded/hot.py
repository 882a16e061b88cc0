"""One process of several that hold and settle for one tenant as fast as they can; prints how many pairs."""

import asyncio
import sys
import time
from pathlib import Path

from app.bootstrap import open_runtime
from app.budgets.caps import Payer
from app.budgets.ledger import CallPurpose, Used
from app.settings import load_settings

MEMBER = "00000000-0000-7000-8000-000000000001"
AT_ONCE = 64


async def pairs(url: str, config: Path, seconds: float, tenant_id: str, run_id: str) -> int:
    """How many pairs this process did in the time. Those without a run are put on the tenant's record as well."""
    settings = load_settings(database_url=url, environment="test", config_dir=config)
    payer, purpose, done = Payer(tenant_id, MEMBER, run_id), CallPurpose("chat", "probe-model-1", ""), 0
    async with open_runtime(settings, durable=False) as runtime:
        until = time.monotonic() + seconds

        async def one_after_another() -> None:
            nonlocal done
            while time.monotonic() < until:
                held = await runtime.ledger.reserve(payer, 10, purpose)
                await runtime.ledger.settle(held, Used(1, 10, 10))
                done += 1

        await asyncio.gather(*(one_after_another() for _ in range(AT_ONCE)))
    return done


if __name__ == "__main__":
    print(asyncio.run(pairs(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), *sys.argv[4:6])))
