"""Every process that the service under proof starts, written down as it is started: a fast one would not be seen."""

import json
import subprocess
from asyncio.base_events import BaseEventLoop
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import uvloop

_by_the_loop: ContextVar[bool] = ContextVar("by_the_loop", default=False)  # some loops start theirs with `subprocess`


def record(file: Path) -> None:
    """From here on each command is a line in the file, whether `subprocess` starts it or an event loop does."""
    start = subprocess.Popen.__init__

    def note(words: Sequence[Any]) -> None:
        with file.open("a") as lines:
            lines.write(json.dumps([str(word) for word in words]) + "\n")

    def started(popen: "subprocess.Popen[Any]", args: Any, *rest: Any, **options: Any) -> None:
        if not _by_the_loop.get():
            note([args] if isinstance(args, str) else args)
        start(popen, args, *rest, **options)

    def noted_by(loop: Any) -> Any:
        start_by_the_loop = loop.subprocess_exec

        async def started_by_the_loop(loop: Any, protocol: Any, *words: Any, **options: Any) -> Any:
            note(words)
            token = _by_the_loop.set(True)
            try:
                return await start_by_the_loop(loop, protocol, *words, **options)
            finally:
                _by_the_loop.reset(token)

        return started_by_the_loop

    setattr(subprocess.Popen, "__init__", started)  # noqa: B010 - mypy knows each overload
    for loop in (BaseEventLoop, uvloop.Loop):
        setattr(loop, "subprocess_exec", noted_by(loop))  # noqa: B010 - mypy knows each signature


def commands(file: Path) -> list[list[str]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
