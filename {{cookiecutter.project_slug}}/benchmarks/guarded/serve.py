"""The service with a stopwatch around each guard, written to GUARDS_FILE when it is told to end."""

import atexit
import functools
import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from app.budgets.ledger import Ledger
from app.entrypoints.cli import main
from app.gateway import chat
from app.gateway.cache import Cache
from app.gateway.forwarding import Upstream
from app.gateway.routing import Routing
from app.identity.directory import Directory
from app.switches.board import Board

SPENT: dict[str, list[float]] = {}


def timed(name: str, work: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """The same, and how long it took."""

    @functools.wraps(work)
    async def around(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return await work(*args, **kwargs)
        finally:
            SPENT.setdefault(name, []).append(time.perf_counter() - began)

    return around


def _watch(owner: Any, method: str, name: str) -> None:
    setattr(owner, method, timed(name, getattr(owner, method)))


def _tell() -> None:
    told = {name: {"calls": len(s), "ms": sum(s) / len(s) * 1_000} for name, s in SPENT.items()}
    Path(os.environ["GUARDS_FILE"]).write_text(json.dumps(told))


if __name__ == "__main__":
    for owner, method, name in (
        (Directory, "authenticate", "key and member"),
        (Routing, "route", "tenant's tier and budget"),
        (Cache, "find", "cache"),
        (Board, "require_clear", "switches"),
        (Ledger, "reserve", "hold"),
        (Ledger, "settle", "settle"),
        (Upstream, "whole", "provider"),
        (chat.Chat, "whole", "all of the gateway"),
    ):
        _watch(owner, method, name)
    atexit.register(_tell)
    main()
