"""The offline models behind OpenAI's interface: the same answers as an agent gets, in that interface's shape."""

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.function import AgentInfo
from pydantic_ai.tools import ToolDefinition

from app.gateway.offline import reply
from app.gateway.offline_embeddings import embedded

Body = dict[str, Any]


class OfflineChat:
    async def whole(self, body: Body) -> Body:
        response = await reply([_message(message) for message in body["messages"]], _offered(body))
        message = _answer(response)
        finish = "tool_calls" if message.get("tool_calls") else "stop"
        choices = [{"index": n, "message": message, "finish_reason": finish} for n in range(body.get("n", 1))]
        return {**_head(body, "chat.completion"), "choices": choices, "usage": _usage(response)}

    @asynccontextmanager
    async def stream(self, body: Body) -> AsyncGenerator[AsyncIterator[Body]]:
        yield self._pieces(body, await self.whole(body))

    async def embed(self, body: Body) -> Body:
        return await embedded(body)

    async def _pieces(self, body: Body, answer: Body) -> AsyncIterator[Body]:
        head = _head(body, "chat.completion.chunk")
        for choice in answer["choices"]:
            message, number = choice["message"], choice["index"]
            deltas: list[Body] = [{"role": "assistant", "content": ""}]
            deltas += [{"content": word} for word in (message["content"] or "").splitlines(keepends=True)]
            calls = message.get("tool_calls") or []
            deltas += [{"tool_calls": [{"index": at, **call}]} for at, call in enumerate(calls)]
            for delta in deltas:
                yield {**head, "choices": [{"index": number, "delta": delta, "finish_reason": None}]}
            yield {**head, "choices": [{"index": number, "delta": {}, "finish_reason": choice["finish_reason"]}]}
        yield {**head, "choices": [], "usage": answer["usage"]}


def _head(body: Body, kind: str) -> Body:
    return {"id": f"chatcmpl-{uuid4().hex}", "object": kind, "created": int(time.time()), "model": body["model"]}


def _message(message: Body) -> ModelMessage:
    text = _text(message.get("content"))
    match message["role"]:
        case "assistant":
            calls = [
                ToolCallPart(call["function"]["name"], call["function"]["arguments"], tool_call_id=call.get("id") or "")
                for call in message.get("tool_calls") or ()
            ]
            return ModelResponse(parts=[*([TextPart(text)] if text else []), *calls])
        case "tool":
            called = message.get("tool_call_id") or ""
            return ModelRequest(parts=[ToolReturnPart("tool", text, tool_call_id=called)])
        case "user":
            return ModelRequest(parts=[UserPromptPart(text)])
    return ModelRequest(parts=[SystemPromptPart(text)])


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content or ())


def _offered(body: Body) -> AgentInfo:
    offered = [] if body.get("tool_choice") == "none" else body.get("tools", [])
    functions = [tool["function"] for tool in offered]
    tools = [ToolDefinition(name=f["name"], parameters_json_schema=f.get("parameters") or {}) for f in functions]
    return AgentInfo(
        function_tools=tools,
        allow_text_output=True,
        output_tools=[],
        model_settings=None,
        model_request_parameters=ModelRequestParameters(function_tools=tools),
        instructions=None,
    )


def _answer(response: ModelResponse) -> Body:
    texts = [part.content for part in response.parts if isinstance(part, TextPart)]
    calls = [
        {
            "id": part.tool_call_id,
            "type": "function",
            "function": {"name": part.tool_name, "arguments": part.args_as_json_str()},
        }
        for part in response.parts
        if isinstance(part, ToolCallPart)
    ]
    return {"role": "assistant", "content": "\n".join(texts) or None, **({"tool_calls": calls} if calls else {})}


def _usage(response: ModelResponse) -> Body:
    used = response.usage
    return {
        "prompt_tokens": used.input_tokens,
        "completion_tokens": used.output_tokens,
        "total_tokens": used.input_tokens + used.output_tokens,
    }
