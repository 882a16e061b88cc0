"""The proxy that somebody writes in an hour: FastAPI, the service's HTTP client, nothing else. PORT, UPSTREAM."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import uvicorn
from fastapi import FastAPI, Response
from pydantic import BaseModel


class Asked(BaseModel):
    model: str
    messages: list[dict[str, Any]]
    temperature: float | None = None
    max_completion_tokens: int | None = None


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    async with httpx2.AsyncClient(base_url=os.environ["UPSTREAM"], trust_env=False, timeout=30) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/readyz")
async def ready() -> None:
    """Ready as soon as it answers."""


@app.post("/v1/chat/completions")
async def chat(asked: Asked) -> Response:
    """Forward the request and its answer."""
    answer = await app.state.client.post("/chat/completions", json=asked.model_dump(exclude_none=True))
    return Response(answer.content, answer.status_code, media_type="application/json")


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="error", access_log=False)
