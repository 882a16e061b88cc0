"""The chat interface that OpenAI's clients speak, so that a prototype changes its address and its key and is guarded.

Only parameters are taken whose price is in tokens: what would be billed apart (searches, audio, pictures, faster
service) has no cap here and is refused. Errors on these routes have that interface's shape.
"""

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import anyio
from fastapi import APIRouter, Header, Response
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, Field, StringConstraints
from starlette.types import Receive, Scope, Send

from app.api.guards import require
from app.api.problems import openai_error
from app.api.schemas import NO_NUL, Integral, Strict
from app.api.state import RuntimeDep
from app.budgets.caps import Payer
from app.budgets.money import usd
from app.errors import AppError
from app.gateway.chat import Answered, Chat, ChatRequest
from app.identity.principal import Principal

router = APIRouter(prefix="/v1", tags=["chat"])
MOST_MESSAGES, MOST_TOOLS = 500, 128
Text = Annotated[str, StringConstraints(max_length=400_000, pattern=NO_NUL)]
FunctionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
CallId = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,200}$")]
DEEPEST = 40  # a schema's levels


def _shallow(schema: dict[str, Any]) -> dict[str, Any]:
    level: list[Any] = [schema]
    for _ in range(DEEPEST):
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
        level = [each for each in level if isinstance(each, dict | list)]
        if not level:
            return schema
    raise ValueError(f"at most {DEEPEST} levels")


Schema = Annotated[dict[str, Any], AfterValidator(_shallow)]


class TextPart(Strict):
    type: Literal["text"]
    text: Text


class CalledFunction(Strict):
    name: FunctionName
    arguments: Text


class ToolCall(Strict):
    id: CallId
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(Strict):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | Annotated[list[TextPart], Field(min_length=1, max_length=100)] | None = None
    name: FunctionName | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MOST_TOOLS)] | None = None
    tool_call_id: CallId | None = None
    refusal: Text | None = None
    # An answer put back into the conversation has these; they say nothing to a model.
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    audio: None = None
    function_call: None = None


class FunctionSchema(Strict):
    name: FunctionName
    description: Annotated[str, StringConstraints(max_length=8_000, pattern=NO_NUL)] | None = None
    parameters: Schema | None = None
    strict: bool | None = None


class Tool(Strict):
    type: Literal["function"]
    function: FunctionSchema


class ChosenFunction(Strict):
    name: FunctionName


class ToolChoice(Strict):
    type: Literal["function"]
    function: ChosenFunction


class ResponseFormat(Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: Schema | None = None


class StreamOptions(Strict):
    include_usage: bool | None = None


Tokens = Annotated[int, Field(ge=1, le=1_000_000), Integral]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=NO_NUL)]


class ChatCompletionCreate(Strict):
    model: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,119}$")]
    messages: Annotated[list[Message], Field(min_length=1, max_length=MOST_MESSAGES)]
    max_completion_tokens: Tokens | None = None
    max_tokens: Tokens | None = Field(None, description="the older name of max_completion_tokens")
    n: Annotated[int, Field(ge=1, le=4), Integral] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[str, StringConstraints(max_length=200, pattern=NO_NUL)] | None = Field(
        None, description="taken and not passed on: the provider learns of no user"
    )
    tools: Annotated[list[Tool], Field(max_length=MOST_TOOLS)] | None = None
    # From here on passed on as it is.
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    seed: Annotated[int, Field(ge=-(2**53), le=2**53), Integral] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20), Integral] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high"] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None

    def request(self, *, anew: bool) -> ChatRequest:
        said = self.model_dump(exclude_none=True)
        passed = {name: said[name] for name in PASSED_ON if name in said}
        messages = [_without_remains(message) for message in said["messages"]]
        most = min((n for n in (self.max_completion_tokens, self.max_tokens) if n is not None), default=None)
        return ChatRequest(self.model, messages, said.get("tools", []), passed, most, self.n or 1, anew)


PASSED_ON = (
    "tool_choice", "parallel_tool_calls", "response_format", "temperature", "top_p", "frequency_penalty",
    "presence_penalty", "stop", "seed", "logprobs", "top_logprobs", "reasoning_effort", "verbosity",
)  # fmt: skip


def _without_remains(message: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in message.items() if name != "annotations" and value != []}
    if kept["role"] != "assistant":
        kept.setdefault("content", "")
    return kept


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


class ModelView(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str


class Models(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelView]


@router.get("/models", response_model=Models)
async def list_models(runtime: RuntimeDep, _: Annotated[Principal, require("chat:write")]) -> Models:
    """The names that `model` may have."""
    owner = runtime.settings.service.name
    return Models(data=[ModelView(id=name, owned_by=owner) for name in runtime.chat.catalog.names_known])


@router.post(
    "/chat/completions",
    response_model=ChatCompletion,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def create_chat_completion(
    principal: Annotated[Principal, require("chat:write", costly=True)],
    body: ChatCompletionCreate,
    runtime: RuntimeDep,
    cache_control: Annotated[str | None, Header(description="`no-cache`: an answer made for this request")] = None,
) -> Response:
    """Answer a conversation. `stream: true` sends the answer as server-sent events while it is written."""
    payer = Payer(principal.tenant_id, principal.member_id)
    request = body.request(anew="no-cache" in (cache_control or "") or "no-store" in (cache_control or ""))
    if body.stream:
        asked = body.stream_options is not None and bool(body.stream_options.include_usage)
        return ChatStream(runtime.chat, payer, request, with_usage=asked)
    answer, answered = await runtime.chat.whole(payer, request)
    headers = _told(answered) | {"X-Cost-USD": usd(answered.cost_micro)}
    return JSONResponse(answer, headers=headers)


def _told(answered: Answered) -> dict[str, str]:
    told = {"X-Model": answered.model}
    if answered.degraded:
        told["X-Degraded"] = "true"
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
