"""What a request starts and leaves behind carries nothing of it: no id, payer, trace or open transaction."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Coroutine
from contextvars import Context, copy_context
from typing import Any

import httpx2
import pytest
import structlog
from fastapi import FastAPI

from app.entrypoints.web import create_app
from app.settings import load_settings
from gates.rig import people

pytestmark = pytest.mark.anyio
CHAT = {"model": "small", "messages": [{"role": "user", "content": "Hello."}]}
REQUESTS: tuple[tuple[str, str, dict[str, Any] | None], ...] = (
    ("GET", "/readyz", None),
    ("GET", "/livez", None),
    ("GET", "/v1/runs", None),
    ("POST", "/v1/runs", {"feature": "assistant", "task": "Look."}),
    ("POST", "/v1/chat/completions", CHAT),
    ("POST", "/v1/chat/completions", CHAT | {"stream": True}),
    ("GET", "/v1/usage", None),
    ("POST", "/v1/keys", {}),
)
OF_THE_PROCESS = frozenset({"group commit", "health probe", "switches"})


class Started:
    """The tasks that an event loop has started, each with its context."""

    def __init__(self) -> None:
        self.tasks: list[tuple[asyncio.Task[Any], dict[str, object]]] = []

    def __call__(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], context: Context | None = None
    ) -> asyncio.Task[Any]:
        context = copy_context() if context is None else context
        carried = {variable.name: value for variable, value in context.items()}
        task = asyncio.Task(work, loop=loop, context=context)
        self.tasks.append((task, carried))
        return task

    def left_behind(self) -> list[tuple[str, dict[str, object]]]:
        """Those of the process, and whichever are still at work, each with what it carried when it was started."""
        named = [(task.get_name(), carried, task.done()) for task, carried in self.tasks]
        return [(name, carried) for name, carried, done in named if not done or name in OF_THE_PROCESS]


@pytest.fixture
async def app(database_url: str) -> AsyncGenerator[FastAPI]:
    settings = load_settings(database_url=database_url, environment="test", embedded_worker=False)
    made = create_app(settings)
    async with made.router.lifespan_context(made):
        yield made


async def test_what_outlives_a_request_carries_nothing_of_it(app: FastAPI) -> None:
    runtime = app.state.runtime
    admin = await people.person(runtime, await people.tenant(runtime), ["admin", "member"])
    started, loop = Started(), asyncio.get_running_loop()
    seen: set[str] = set()
    keys = itertools.count()

    async def ask(method: str, path: str, body: dict[str, Any] | None) -> None:
        structlog.contextvars.bind_contextvars(tenant="a stranger")  # what code of a request may add
        headers = {"Authorization": f"Bearer {admin.key}", "Idempotency-Key": f"k-{next(keys)}-12345678"}
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
            answer = await client.request(method, path, json=body)
            assert answer.status_code < 500, answer.text

    loop.set_task_factory(started)  # type: ignore[arg-type]
    try:
        for request in REQUESTS:
            await asyncio.create_task(ask(*request))
            for name, carried in started.left_behind():
                assert carried == {}, f"{request[:2]} left the task {name!r} behind with {sorted(carried)}"
                seen.add(name)
    finally:
        loop.set_task_factory(None)
    assert seen >= OF_THE_PROCESS, "these requests start all of them"
