"""The chat interface that OpenAI's clients speak, so that a prototype changes its address and its key and is guarded.

Errors on these routes have that interface's shape.
"""

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import anyio
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from app.api.cache_control import CacheControl
from app.api.chat_request import ChatCompletionCreate
from app.api.guards import require
from app.api.problems import openai_error
from app.api.state import RuntimeDep
from app.budgets.caps import Payer
from app.budgets.money import usd
from app.errors import AppError
from app.gateway.chat import Answered, Chat, ChatRequest
from app.identity.principal import Principal

router = APIRouter(prefix="/v1", tags=["chat"])


class Choice(BaseModel):
    index: int
    message: dict[str, Any]
    finish_reason: str | None


class ChatCompletion(BaseModel):
    """As the provider answered; the fields that every client reads."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: dict[str, Any] | None = None


@router.post(
    "/chat/completions",
    response_model=ChatCompletion,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def create_chat_completion(
    principal: Annotated[Principal, require("chat:write", costly=True)],
    body: ChatCompletionCreate,
    runtime: RuntimeDep,
    caching: CacheControl,
) -> Response:
    """Answer a conversation. `stream: true` sends the answer as server-sent events while it is written."""
    payer = Payer(principal.tenant_id, principal.member_id)
    request = body.request(caching)
    if body.stream:
        asked = body.stream_options is not None and bool(body.stream_options.include_usage)
        return ChatStream(runtime.chat, payer, request, with_usage=asked)
    answer, answered = await runtime.chat.whole(payer, request)
    headers = _told(answered) | {"X-Cost-USD": usd(answered.cost_micro)}
    return JSONResponse(answer, headers=headers)


def _told(answered: Answered) -> dict[str, str]:
    told = {"X-Model": answered.model, "X-Tier": answered.route.tier}
    if answered.degraded:
        told["X-Degraded"] = "true"
    if answered.dropped:
        told["X-Dropped-Parameters"] = ", ".join(answered.dropped)
    if answered.age is not None:  # RFC 9211, RFC 9111
        told |= {"Cache-Status": "service; hit", "Age": str(int(answered.age.total_seconds()))}
    return told


class ChatStream(Response):
    """The answer as it comes. One task asks, reads and lets go; a client that hangs up ends the request upstream."""

    def __init__(self, chat: Chat, payer: Payer, request: ChatRequest, *, with_usage: bool) -> None:
        super().__init__(media_type="text/event-stream")
        del self.headers["content-length"]  # as long as it gets
        self._chat, self._payer, self._request, self._with_usage = chat, payer, request, with_usage

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
                self.headers.update(_told(answered))
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                began = True
                async for event in self._events(pieces):
                    await send({"type": "http.response.body", "body": event, "more_body": True})
        except AppError as error:
            if not began:
                raise
            told = json.dumps(openai_error(error)).encode()
            await send({"type": "http.response.body", "body": b"data: " + told + b"\n\n", "more_body": True})
        else:
            await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _events(self, pieces: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            if not self._with_usage:
                piece.pop("usage", None)
                if not piece.get("choices"):
                    continue
            yield b"data: " + json.dumps(piece).encode() + b"\n\n"
