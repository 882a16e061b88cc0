"""Running processes: the web server, the operations port, the worker. Gate: security, deployment, observability."""

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Coroutine, Iterator
from functools import partial
from typing import Any

import anyio
import uvicorn

from app.bootstrap import open_runtime
from app.draining import Drain
from app.entrypoints.connection import bounded
from app.entrypoints.listening import listen, url_of
from app.entrypoints.operations import Heartbeat, create_worker_operations_app, stuck_after, watched
from app.entrypoints.release import Release, revisions_of
from app.entrypoints.web import create_app, create_operations_app
from app.runs.engine import running_worker
from app.settings import Settings


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
    main_socket = listen(settings.host, settings.port)
    operations_socket = listen(settings.operations_host, settings.operations_port, prefix="OPERATIONS_")
    app = create_app(settings)
    main = _Server(_config(app, settings))

    async def stored() -> list[str] | None:
        runtime = getattr(app.state, "runtime", None)  # there once the service has started
        return None if runtime is None else await revisions_of(runtime.db)

    inside_app = create_operations_app(Release.read(settings), stored, housekeeping=settings.embedded_worker)
    operations = _Server(_config(inside_app, settings))
    name, inside = settings.service.name, f"{url_of(operations_socket)}/metrics"
    print(
        f"{name} listens on {url_of(main_socket)} (console: /console, operations: {inside})",
        file=sys.stderr,
        flush=True,
    )

    def end(how: signal.Signals) -> None:
        again = app.state.draining.is_set()
        app.state.draining.set()
        if settings.embedded_worker:
            app.state.drain.begin()
        main.handle_exit(how, None)
        main.force_exit = again  # requests are waited for no longer

    for ending in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(ending, end, ending)
    # What is loaded by now stays: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(operations.serve, [operations_socket])
        await main.serve([main_socket])
        if main.started and main.force_exit:
            await main.lifespan.shutdown()  # which the server leaves out then: the worker must end in order
        operations.should_exit = True
    if not main.started:
        raise SystemExit(3)


def _config(app: object, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=bounded(settings.request_max_bytes, settings.client_stall_s),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=[str(network) for network in settings.trusted_proxies],
        timeout_graceful_shutdown=15,
        reset_contextvars=True,  # a request that waited for another on its connection has nothing of that one
    )


def work(settings: Settings) -> None:
    """Advance queued runs until SIGINT or SIGTERM; segments under way finish, or are handed to another worker."""
    with contextlib.suppress(KeyboardInterrupt):
        _run(_work(settings))


async def _work(settings: Settings) -> None:
    operations_socket = listen(settings.operations_host, settings.operations_port, prefix="OPERATIONS_")
    release = Release.read(settings)
    drain = Drain(settings.shutdown_grace)
    for ending in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(ending, drain.begin)
    async with open_runtime(settings) as runtime, anyio.create_task_group() as beside:
        heartbeat = Heartbeat(runtime.db.ping, drain, stuck_after(settings.database_timeout))
        stored = partial(revisions_of, runtime.db)
        operations = _Server(_config(create_worker_operations_app(release, stored, heartbeat), settings))
        beside.start_soon(operations.serve, [operations_socket])
        async with (
            watched(heartbeat, ends_process=settings.environment != "development"),
            running_worker(settings, runtime.segments.advance, drain) as identity,
            anyio.create_task_group() as tasks,
        ):
            told = f"{settings.service.name} {identity} takes runs (operations: {url_of(operations_socket)}/metrics)"
            print(told, file=sys.stderr, flush=True)
            heartbeat.takes_work = True
            tasks.start_soon(runtime.housekeeping.forever)
            await drain.requested.wait()
            tasks.cancel_scope.cancel()
        operations.should_exit = True
