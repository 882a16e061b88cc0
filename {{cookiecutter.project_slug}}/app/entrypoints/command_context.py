"""What every command shares: settings, the runtime, and one clear message for anything that goes wrong."""

import asyncio
from collections.abc import Awaitable, Callable
from getpass import getuser
from typing import Annotated, TypeVar

import typer

from app.bootstrap import open_runtime
from app.runtime import Runtime
from app.settings import load_settings

Result = TypeVar("Result")
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Because = Annotated[str, typer.Option("--reason", help="Why; it goes into the audit trail.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen and change nothing.")]


def with_runtime(work: Callable[[Runtime], Awaitable[Result]]) -> Result:
    """Open the runtime of this environment, do the work, close it."""

    async def run() -> Result:
        async with open_runtime(load_settings()) as runtime:
            return await work(runtime)

    return asyncio.run(run())


def operator() -> str:
    """Who is at the terminal, for the audit trail."""
    try:
        return f"cli:{getuser()}"[:80]
    except (KeyError, OSError):
        return "cli:unknown"
