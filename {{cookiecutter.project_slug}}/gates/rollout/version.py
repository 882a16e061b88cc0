"""A version of the service for drills: `python -m gates.rollout.version serve` is `app serve` with a fault of its own.

DRILL_DELAY_S is the median of what is added to every answer (lognormal, as waits for models are),
 DRILL_PAUSE_S to every piece of a stream, and DRILL_ERRORS is the share of
requests that end with an exception. Shipped code has no switch for any of it.
"""

import asyncio
import os
import random
from typing import Any

SPREAD = 0.6
DELAY, PAUSE, ERRORS = "DRILL_DELAY_S", "DRILL_PAUSE_S", "DRILL_ERRORS"


class Faulty:
    """Innermost: the service's own envelope around it counts what it does, as it would count a bug."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._delay, self._pause, self._errors = (float(os.environ.get(name, "0")) for name in (DELAY, PAUSE, ERRORS))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        await asyncio.sleep(self._delay * random.lognormvariate(0, SPREAD))
        if random.random() < self._errors:  # noqa: S311 - nobody has to guess it
            raise RuntimeError("the fault of this version")
        streams = False

        async def sent(message: Any) -> None:
            nonlocal streams
            if message["type"] == "http.response.start":
                streams = dict(message["headers"]).get(b"content-type", b"").startswith(b"text/event-stream")
            elif streams and message.get("body"):
                await asyncio.sleep(self._pause)
            await send(message)

        await self._app(scope, receive, sent)


def main() -> None:
    # Order matters: serving imports this function by name.
    from starlette.middleware import Middleware  # noqa: PLC0415

    from app.entrypoints import web  # noqa: PLC0415

    made = web.create_app

    def create_app(settings: Any) -> Any:
        app = made(settings)
        app.user_middleware.append(Middleware(Faulty))
        return app

    web.create_app = create_app

    from app.entrypoints.cli import main as command_line  # noqa: PLC0415

    command_line()


if __name__ == "__main__":
    main()
