"""A chat request at a provider, over the OpenAI-compatible interface that each of them offers beside its own.

What a caller may say there is passed on as it is, so this service need not know what a parameter means, and one
request here is one request at the provider. Connections are kept and shared. Gate: cost.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import httpx2
from pydantic_ai.exceptions import ModelConnectionError, ModelHTTPError, UnexpectedModelBehavior
from pydantic_ai.usage import RequestUsage

Body = dict[str, Any]
ADDRESSES = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com/v1",
    "google": "https://generativelanguage.googleapis.com/v1beta/openai",
}
MOST_BYTES = 4_000_000  # of an answer; a broken provider must not fill this process
END = "[DONE]"


class Upstream(Protocol):
    """Where chat requests are answered. Raises what `failures.classified` knows."""

    async def whole(self, body: Body) -> Body:
        """The answer as one object."""
        ...

    def stream(self, body: Body) -> AbstractAsyncContextManager[AsyncIterator[Body]]:
        """The answer piece by piece, as the provider sends it."""
        ...


@dataclass(frozen=True)
class Forwarded:
    """A provider's address; `client` carries the credential and the time limits of a connection."""

    client: httpx2.AsyncClient
    url: str

    async def whole(self, body: Body) -> Body:
        raw = bytearray()
        async with self._asked(body) as response:
            async for piece in response.aiter_bytes():
                raw += piece
                if len(raw) > MOST_BYTES:
                    raise UnexpectedModelBehavior("an answer beyond all bounds")
        answer = _object(raw, "message")
        if not answer.get("choices"):
            raise UnexpectedModelBehavior("an answer without choices")
        return answer

    @asynccontextmanager
    async def stream(self, body: Body) -> AsyncGenerator[AsyncIterator[Body]]:
        async with self._asked(body) as response:
            yield _pieces(response)

    @asynccontextmanager
    async def _asked(self, body: Body) -> AsyncGenerator[httpx2.Response]:
        model = body["model"]
        try:
            async with self.client.stream("POST", f"{self.url}/chat/completions", json=body) as response:
                if response.status_code != 200:
                    told = (await _beginning(response)).decode("utf-8", "replace")
                    raise ModelHTTPError(response.status_code, model, told, headers=dict(response.headers))
                yield response
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            raise ModelConnectionError(model, "not reached") from error


async def _beginning(response: httpx2.Response, most: int = 10_000) -> bytes:
    """Enough of an error to see what it is."""
    raw = b""
    async for piece in response.aiter_bytes():
        raw += piece
        if len(raw) > most:
            break
    return raw[:most]


async def _pieces(response: httpx2.Response) -> AsyncIterator[Body]:
    if "event-stream" not in response.headers.get("content-type", ""):
        raise UnexpectedModelBehavior("no stream of events")
    size, finished = 0, False
    async for event in httpx2.EventSource(response, max_event_size=MOST_BYTES):
        size += len(event.data)
        if size > MOST_BYTES:
            raise UnexpectedModelBehavior("an answer beyond all bounds")
        if event.data == END:
            return
        piece = _object(event.data, "delta")
        if "error" in piece:
            raise ModelConnectionError("", "the provider gave up")
        finished = finished or any(choice.get("finish_reason") for choice in piece.get("choices") or ())
        yield piece
    if not finished:
        raise ModelConnectionError("", "the stream broke off")


def _object(raw: bytes | bytearray | str, said: str) -> Body:
    """An answer, or a piece of one, of which `said` is what each choice says."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        found = None
    choices = (found.get("choices") or []) if isinstance(found, dict) else None
    if not isinstance(choices, list) or not all(_is_choice(choice, said) for choice in choices):
        raise UnexpectedModelBehavior("not what a chat is answered")
    return dict(found)


def _is_choice(choice: Any, said: str) -> bool:
    told = choice.get(said) if isinstance(choice, dict) else None
    if not isinstance(told, dict) or not isinstance(told.get("content"), str | None):
        return False
    calls = told.get("tool_calls") or []
    return isinstance(calls, list) and all(_is_call(call) for call in calls)


def _is_call(call: Any) -> bool:
    function = (call.get("function") or {}) if isinstance(call, dict) else None
    return isinstance(function, dict) and isinstance(function.get("arguments") or "", str)


def usage_of(answer: Mapping[str, Any]) -> RequestUsage | None:
    """The tokens an answer was billed for, as the provider reports them; None where it does not say."""
    told = answer.get("usage")
    if not isinstance(told, dict):
        return None
    counts = [told.get(name) for name in ("prompt_tokens", "completion_tokens")]
    known = [count for count in counts if isinstance(count, int)]
    return RequestUsage(input_tokens=known[0], output_tokens=known[1]) if len(known) == len(counts) else None
