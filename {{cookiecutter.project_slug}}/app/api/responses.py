"""OpenAI's Responses interface without state: another way to say the guarded call of `app/api/chat`.

Nothing is stored, and what would need that is refused. Errors have that interface's shape. Gate: cost, errors.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from app.api.answer_stream import AnswerStream, answer_headers
from app.api.cache_control import CacheControl
from app.api.guards import require
from app.api.problems import openai_error
from app.api.responses_answer import ResponseDraft
from app.api.responses_request import ResponseCreate
from app.api.responses_translation import PARAMETERS, chat_request
from app.api.state import RuntimeDep
from app.budgets.caps import Payer
from app.budgets.money import usd
from app.errors import AppError
from app.gateway.chat import Answered
from app.identity.principal import Principal

router = APIRouter(prefix="/v1", tags=["chat"])


class ResponseView(BaseModel):
    """The fields that every client reads; what was asked for stands beside them."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["completed", "incomplete"]
    model: str
    output: list[dict[str, Any]]
    incomplete_details: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    metadata: dict[str, str] = {}
    store: Literal[False]


@router.post("/responses", response_model=ResponseView, responses={200: {"content": {"text/event-stream": {}}}})
async def create_response(
    principal: Annotated[Principal, require("chat:write", costly=True)],
    body: ResponseCreate,
    runtime: RuntimeDep,
    caching: CacheControl,
) -> Response:
    """Answer a conversation that is sent whole. `stream: true` sends the answer as server-sent events meanwhile."""
    payer = Payer(principal.tenant_id, principal.member_id)
    request, draft = chat_request(body, caching), ResponseDraft(body)
    if body.stream:
        return AnswerStream(runtime.chat, payer, request, ResponseEvents(draft))
    answer, answered = await runtime.chat.whole(payer, request)
    headers = answer_headers(answered, PARAMETERS) | {"X-Cost-USD": usd(answered.cost_micro)}
    return JSONResponse(draft.whole(answer, answered.model), headers=headers)


class ResponseEvents:
    """The draft's events on the wire. Its last one is the end: this interface has no `[DONE]`."""

    parameters = PARAMETERS

    def __init__(self, draft: ResponseDraft) -> None:
        self._draft = draft
        self._model = ""

    async def events(self, pieces: AsyncIterator[dict[str, Any]], answered: Answered) -> AsyncGenerator[bytes]:
        self._model = answered.model
        async for piece in pieces:
            if said := _written(self._draft.add(piece, self._model)):
                yield said

    def ended(self) -> bytes:
        return _written(self._draft.end(self._model))

    def failed(self, error: AppError) -> bytes:
        return _written(self._draft.fail(openai_error(error)["error"]))


def _written(events: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)
