"""Running processes: the web server, the operations port, the worker. Gate: security."""

import asyncio
import contextlib
import errno
import gc
import signal
import socket
import sys
from collections.abc import Coroutine, Iterator
from typing import Any

import anyio
import uvicorn

from app.bootstrap import open_runtime
from app.entrypoints.connection import bounded
from app.entrypoints.web import create_app, create_operations_app
from app.features import FEATURES
from app.runs.engine import running_worker
from app.settings import Settings


class PortTaken(Exception):
    """Another process listens there; the message names the setting to change."""


class _Server(uvicorn.Server):
    """A server that leaves signals to us: one signal ends both, and a clean end exits with 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; requests in flight are finished first."""
    _run(_serve(settings))


def _run(work: Coroutine[Any, Any, None]) -> None:
    """On the loop that the server would choose: uvloop, where it is installed."""
    with asyncio.Runner(loop_factory=uvicorn.Config("", log_config=None).get_loop_factory()) as runner:
        runner.run(work)


async def _serve(settings: Settings) -> None:
    main_socket = _listen(settings.host, settings.port, "PORT")
    operations_socket = _listen("127.0.0.1", settings.operations_port, "OPERATIONS_PORT")
    prompts = {feature.name: feature.agent.prompt_version for feature in FEATURES}
    app = create_app(settings)
    main = _Server(_config(app, settings))
    operations = _Server(_config(create_operations_app(settings, prompts), settings))
    host, port = main_socket.getsockname()[:2]
    name, inside = settings.service.name, operations_socket.getsockname()[1]
    print(
        f"{name} listens on http://{host}:{port} (console: /console, operations: http://127.0.0.1:{inside}/metrics)",
        file=sys.stderr,
        flush=True,
    )

    def end(how: signal.Signals) -> None:
        app.state.draining.set()
        main.handle_exit(how, None)

    for ending in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(ending, end, ending)
    # What is loaded by now stays: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(operations.serve, [operations_socket])
        await main.serve([main_socket])
        operations.should_exit = True
    if not main.started:
        raise SystemExit(3)


def _config(app: object, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=bounded(settings.request_max_bytes),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=[str(network) for network in settings.trusted_proxies],
        timeout_graceful_shutdown=15,
        reset_contextvars=True,  # a request that waited for another on its connection has nothing of that one
    )


def _listen(host: str, port: int, setting: str) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=1024)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(
                f"{setting}: {host}:{port} is taken by another process; set {setting} to a free one"
            ) from None
        raise PortTaken(f"{setting}: cannot listen on {host}:{port} ({error.strerror})") from None


def work(settings: Settings) -> None:
    """Advance queued runs until SIGINT or SIGTERM."""
    with contextlib.suppress(KeyboardInterrupt):
        _run(_work(settings))


async def _work(settings: Settings) -> None:
    async with (
        open_runtime(settings) as runtime,
        running_worker(settings, runtime.segments.advance) as identity,
        anyio.create_task_group() as tasks,
    ):
        print(f"{settings.service.name} {identity} takes runs", file=sys.stderr, flush=True)
        tasks.start_soon(runtime.housekeeping.forever)
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                tasks.cancel_scope.cancel()
                return
