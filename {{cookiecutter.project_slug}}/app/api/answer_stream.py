"""What a guarded chat call tells beside its answer, and the answer as server-sent events of any interface.

Gate: errors, cost.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, Protocol

import anyio
from fastapi import Response
from starlette.types import Receive, Scope, Send

from app.budgets.caps import Payer
from app.errors import AppError
from app.gateway.chat import Answered, Chat
from app.gateway.chat_request import ChatRequest


class Wording(Protocol):
    """How an interface says what a chat's stream says."""

    parameters: Mapping[str, str]  # its names of the chat interface's, where they differ

    def events(self, pieces: AsyncIterator[dict[str, Any]], answered: Answered) -> AsyncGenerator[bytes]:
        """The answer while it is written."""
        ...

    def ended(self) -> bytes:
        """What follows the last of `events` once the answer is whole and paid for."""
        ...

    def failed(self, error: AppError) -> bytes:
        """What follows the last of `events` where the answer broke off."""
        ...


def answer_headers(answered: Answered, parameters: Mapping[str, str]) -> dict[str, str]:
    """Who answered and how; `parameters` are an interface's own names of what it did not take, or in part."""
    headers = {"X-Model": answered.model, "X-Tier": answered.route.tier}
    if answered.degraded:
        headers["X-Degraded"] = "true"
    if answered.max_tokens is not None:
        name = "max_completion_tokens"
        headers["X-Clamped-Parameters"] = f"{parameters.get(name, name)}={answered.max_tokens}"
    if answered.dropped:
        headers["X-Dropped-Parameters"] = ", ".join(parameters.get(name, name) for name in answered.dropped)
    if answered.age is not None:  # RFC 9211, RFC 9111
        headers |= {"Cache-Status": "service; hit", "Age": str(int(answered.age.total_seconds()))}
    return headers


class AnswerStream(Response):
    """The answer as it comes. One task asks, reads and lets go; a client that hangs up ends the request upstream.

    An error before the first event has its own status, as for an answer that is not streamed."""

    def __init__(self, chat: Chat, payer: Payer, request: ChatRequest, wording: Wording) -> None:
        super().__init__(media_type="text/event-stream")
        del self.headers["content-length"]  # as long as it gets
        self._chat, self._payer, self._request, self._wording = chat, payer, request, wording

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        failures: list[BaseException] = []
        async with anyio.create_task_group() as tasks:

            async def answer() -> None:
                try:
                    await self._answer(send)
                except Exception as error:  # noqa: BLE001 - raised below, out of the task group's own wrapping
                    failures.append(error)
                tasks.cancel_scope.cancel()

            tasks.start_soon(answer)
            while (await receive())["type"] != "http.disconnect":
                pass
            tasks.cancel_scope.cancel()
        if failures:
            raise failures[0]

    async def _answer(self, send: Send) -> None:
        began = False
        try:
            async with self._chat.stream(self._payer, self._request) as (pieces, answered):
                self.headers.update(answer_headers(answered, self._wording.parameters))
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                began = True
                async with aclosing(self._wording.events(pieces, answered)) as events:
                    async for event in events:
                        await send({"type": "http.response.body", "body": event, "more_body": True})
        except AppError as error:
            if not began:
                raise
            end = self._wording.failed(error)
        else:
            end = self._wording.ended()
        await send({"type": "http.response.body", "body": end, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
