"""The service with a stopwatch around each guard, written to GUARDS_FILE when it is told to end."""

import atexit
import functools
import inspect
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.api import body
from app.api.limits import RateLimits
from app.budgets.ledger import Ledger
from app.entrypoints.cli import main
from app.gateway import chat
from app.gateway.forwarding import Forwarded
from app.gateway.routing import Routing
from app.identity.directory import Directory
from app.switches.board import Board

SPENT: dict[str, list[float]] = {}


def timed(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """The same, and how long it took."""

    @functools.wraps(work)
    async def waited(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return await work(*args, **kwargs)
        finally:
            SPENT.setdefault(name, []).append(time.perf_counter() - began)

    @functools.wraps(work)
    def done(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return work(*args, **kwargs)
        finally:
            SPENT.setdefault(name, []).append(time.perf_counter() - began)

    return waited if inspect.iscoroutinefunction(work) else done


def _watch(owner: Any, method: str, name: str) -> None:
    setattr(owner, method, timed(name, getattr(owner, method)))


def _tell() -> None:
    """Milliseconds of a request: some guards are asked more than once."""
    requests = len(SPENT.get("the gateway", ())) or 1
    told = {name: {"calls": len(spent), "ms": sum(spent) / requests * 1_000} for name, spent in SPENT.items()}
    Path(os.environ["GUARDS_FILE"]).write_text(json.dumps(told))


if __name__ == "__main__":
    for owner, method, name in (
        (body, "plain_json", "body read as JSON"),
        (RateLimits, "count", "rate limits"),
        (Directory, "authenticate", "key and member"),
        (chat.Chat, "whole", "the gateway"),
        (Routing, "route", "tenant's tier and budget"),
        (chat, "hidden_chat", "personal data out"),
        (chat, "shown_chat", "personal data back"),
        (Board, "require_clear", "switches"),
        (Ledger, "reserve", "hold"),
        (Forwarded, "whole", "the provider, over HTTP"),
        (Ledger, "settle", "settle"),
    ):
        _watch(owner, method, name)
    atexit.register(_tell)
    main()
