"""A chat or embedding request at a provider, over the OpenAI-compatible interface that many offer beside their own.

What a caller may say there is passed on as it is, so this service need not know what a parameter means, and one
request here is one request at the provider. Connections are kept and shared. Gate: cost.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import httpx2
from pydantic_ai.exceptions import ModelConnectionError, ModelHTTPError, UnexpectedModelBehavior

from app.gateway.provider_calls import StreamedArguments
from app.gateway.provider_json import Body, answer_of, chunk_of, object_of
from app.gateway.refusals import ABOUT_THE_REQUEST, RequestRefused

ADDRESSES = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com/v1",
    "google": "https://generativelanguage.googleapis.com/v1beta/openai",
}
MOST_BYTES = 4_000_000  # of an answer; a broken provider must not fill this process
MAX_VECTOR_BYTES, MAX_VECTORS_BYTES = 100_000, 40_000_000  # of an embedding as a JSON list of floats, and of all
END = "[DONE]"


class Upstream(Protocol):
    """Where requests without an agent are answered. Raises what `failures.classified` knows."""

    async def whole(self, body: Body) -> Body:
        """The answer as one object."""
        ...

    def stream(self, body: Body) -> AbstractAsyncContextManager[AsyncIterator[Body]]:
        """The answer piece by piece, as the provider sends it."""
        ...

    async def embed(self, body: Body) -> Body:
        """The answer to a request for embeddings, as the provider sends it."""
        ...


@dataclass(frozen=True)
class Forwarded:
    """A provider's address; `client` carries the credential and the time limits of a connection."""

    client: httpx2.AsyncClient
    url: str

    async def whole(self, body: Body) -> Body:
        return answer_of(await self._read(body, "/chat/completions", MOST_BYTES))

    async def embed(self, body: Body) -> Body:
        most = min(MAX_VECTORS_BYTES, MOST_BYTES + MAX_VECTOR_BYTES * len(body["input"]))
        return object_of(await self._read(body, "/embeddings", most))

    async def _read(self, body: Body, path: str, most: int) -> bytearray:
        raw = bytearray()
        async with self._asked(body, path) as response:
            async for piece in response.aiter_bytes():
                raw += piece
                if len(raw) > most:
                    raise UnexpectedModelBehavior("an answer beyond all bounds")
        return raw

    @asynccontextmanager
    async def stream(self, body: Body) -> AsyncGenerator[AsyncIterator[Body]]:
        async with self._asked(body) as response:
            yield _pieces(response)

    @asynccontextmanager
    async def _asked(self, body: Body, path: str = "/chat/completions") -> AsyncGenerator[httpx2.Response]:
        model = body["model"]
        try:
            async with self.client.stream("POST", f"{self.url}{path}", json=body) as response:
                if response.status_code != 200:
                    told = (await _beginning(response)).decode("utf-8", "replace")
                    kind = RequestRefused if response.status_code in ABOUT_THE_REQUEST else ModelHTTPError
                    raise kind(response.status_code, model, told, headers=dict(response.headers))
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


def _is_error(told: Any) -> bool:
    """Whether anything is said: some providers have `null` in every chunk, and some an object of nothing else."""
    return any(told.values()) if isinstance(told, dict) else bool(told)


async def _pieces(response: httpx2.Response) -> AsyncIterator[Body]:
    if "event-stream" not in response.headers.get("content-type", ""):
        raise UnexpectedModelBehavior("no stream of events")
    size, finished, calls = 0, False, StreamedArguments()
    async for event in httpx2.EventSource(response, max_event_size=MOST_BYTES):
        size += len(event.data)
        if size > MOST_BYTES:
            raise UnexpectedModelBehavior("an answer beyond all bounds")
        if event.data == END:
            return
        if event.data.strip() in {"", "null"}:  # an event's number, or the time to wait before connecting again
            continue
        piece = chunk_of(event.data)
        if _is_error(piece.get("error")):
            raise ModelConnectionError("", "the provider gave up")
        finished = finished or any(choice.get("finish_reason") for choice in piece["choices"])
        yield calls.chunk(piece)
    if not finished:
        raise ModelConnectionError("", "the stream broke off")
