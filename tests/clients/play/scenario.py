"""What each client plays, and how it is told: a line of JSON for each scenario. Nothing but the standard library."""

import json
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

MODEL = "gpt-4o"  # the name that is in people's code
QUESTION = "What is the capital of Portugal?"
LONG, SLOW, REFUSED = f"{QUESTION} [long]", f"{QUESTION} [slow]", f"{QUESTION} [refuse]"
TOLD = "could not be read"  # part of the provider's reason


def plays(name: str, play: Callable[[], Any]) -> None:
    """Run a scenario, which returns nothing and raises where it does not hold."""
    try:
        play()
    except Exception as error:
        last = traceback.format_exception(error)[-1].strip()
        print(json.dumps({"scenario": name, "ok": False, "told": last[:400]}), flush=True)
    else:
        print(json.dumps({"scenario": name, "ok": True}), flush=True)


def plays_async(name: str, play: Callable[[], Awaitable[Any]]) -> None:
    import asyncio

    plays(name, lambda: asyncio.run(play()))


def expect(holds: object, what: object) -> None:
    if not holds:
        raise AssertionError(str(what)[:300])


def refused(call: Callable[[], Any]) -> None:
    """The call fails, and says why."""
    try:
        call()
    except Exception as error:
        expect(TOLD in str(error), f"the reason is not told: {error}")
        return
    raise AssertionError("no error")
