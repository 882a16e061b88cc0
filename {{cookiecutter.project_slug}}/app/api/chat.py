"""The chat interface that OpenAI's clients speak, so that a prototype changes its address and its key and is guarded.

Errors on these routes have that interface's shape.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from app.api.answer_stream import AnswerStream, answer_headers
from app.api.cache_control import CacheControl
from app.api.chat_functions import FunctionCalls
from app.api.chat_request import ChatCompletionCreate
from app.api.guards import require
from app.api.problems import openai_error
from app.api.state import RuntimeDep
from app.budgets.caps import Payer
from app.budgets.money import usd
from app.errors import AppError
from app.gateway.chat import Answered
from app.gateway.vendor_fields import vendor_fields
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
    settings = runtime.settings
    vendor = vendor_fields(settings.model_provider, settings.chat_base_url or settings.model_base_url)
    request, functions = body.request(caching, vendor), FunctionCalls() if body.functions else None
    if body.stream:
        asked = body.stream_options is not None and bool(body.stream_options.include_usage)
        return AnswerStream(runtime.chat, payer, request, ChatEvents(with_usage=asked, functions=functions))
    answer, answered = await runtime.chat.whole(payer, request)
    headers = answer_headers(answered, ChatEvents.parameters) | {"X-Cost-USD": usd(answered.cost_micro)}
    return JSONResponse(functions.told(answer) if functions else answer, headers=headers)


class ChatEvents:
    """The chat interface's own stream: pieces as they are, with their usage for who asked for it, and an end."""

    parameters: Mapping[str, str] = MappingProxyType({})

    def __init__(self, *, with_usage: bool, functions: FunctionCalls | None) -> None:
        self._with_usage, self._functions = with_usage, functions

    async def events(self, pieces: AsyncIterator[dict[str, Any]], _answered: Answered) -> AsyncGenerator[bytes]:
        async for piece in pieces:
            if not self._with_usage:
                piece.pop("usage", None)
                if not piece.get("choices"):
                    continue
            told = self._functions.told(piece) if self._functions else piece
            yield b"data: " + json.dumps(told).encode() + b"\n\n"

    def ended(self) -> bytes:
        return b"data: [DONE]\n\n"

    def failed(self, error: AppError) -> bytes:
        return b"data: " + json.dumps(openai_error(error)).encode() + b"\n\n"
