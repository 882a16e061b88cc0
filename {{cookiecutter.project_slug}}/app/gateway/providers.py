"""The models of the supported providers, with the SDK's own retries off and its environment variables unread.

Where it is not told them, an SDK takes address, key, account and headers from variables of its own; here the settings
alone say where a conversation goes and who pays. AWS's chain of credentials is the exception: it is Bedrock's key.
Only the chosen provider's SDK is installed and imported. Hidden SDK retries multiply latency and
spend, so one attempt here is one request at the provider. How long a request may take is said with each one; a
connection is given less, because one that is not there after a few seconds will not come. Gate: errors, cost.
"""

import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from importlib import import_module
from typing import Any

import httpx2
from pydantic_ai.models import Model, create_async_httpx2_client
from pydantic_ai.models.function import FunctionModel

from app.gateway.forwarding import ADDRESSES, Forwarded, Upstream
from app.gateway.offline import reply, stream_reply
from app.gateway.offline_chat import OfflineChat
from app.gateway.openai_usage import counting

OF_SDKS = ("OPENAI_", "AZURE_OPENAI_", "ANTHROPIC_", "GOOGLE_", "GEMINI_")
CONNECT_S = 3.0
READ_S = 120.0  # where a request does not say less: the longest MODEL_TIMEOUT_MS there is


@asynccontextmanager
async def open_model(provider: str, model: str, *, api_key: str | None, base_url: str | None) -> AsyncGenerator[Model]:
    """The provider's model; its connections are closed with the context."""
    async with AsyncExitStack() as closing:
        with _sdk_variables_unread():
            built, connections = _built(provider, model, api_key, base_url)
        if connections is not None:
            await closing.enter_async_context(connections)
        yield built


def _built(provider: str, model: str, api_key: str | None, base_url: str | None) -> tuple[Any, Any]:
    """The model, and what is to be closed after it. The SDKs read their variables here and at no later time."""
    match provider:
        case "offline":
            return FunctionModel(reply, stream_function=stream_reply, model_name=model), None
        case "openai":
            sdk, models, providers = _load("openai", "openai")
            client = sdk.AsyncOpenAI(api_key=api_key, base_url=base_url, max_retries=0, http_client=_connections())
            return counting(models)(model, provider=providers.OpenAIProvider(openai_client=client)), client
        case "anthropic":
            sdk, models, providers = _load("anthropic", "anthropic")
            client = sdk.AsyncAnthropic(api_key=api_key, base_url=base_url, max_retries=0, http_client=_connections())
            return models.AnthropicModel(model, provider=providers.AnthropicProvider(anthropic_client=client)), client
        case "google":
            _, models, providers = _load("google.genai", "google")
            client = _connections()
            provided = providers.GoogleProvider(api_key=api_key, base_url=base_url, http_client=client)
            return models.GoogleModel(model, provider=provided), client
        case _:
            _, models, providers = _load("boto3", "bedrock")
            provided = providers.BedrockProvider(
                base_url=base_url, aws_connect_timeout=CONNECT_S, aws_read_timeout=READ_S
            )
            return models.BedrockConverseModel(model, provider=provided), None


@contextmanager
def _sdk_variables_unread() -> Iterator[None]:
    """Put back afterwards: a feature's own code may use them. No `await` within, so no other task meets the gap."""
    hidden = {name: os.environ.pop(name) for name in [*os.environ] if name.startswith(OF_SDKS)}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _connections() -> httpx2.AsyncClient:
    return create_async_httpx2_client(timeout=httpx2.Timeout(READ_S, connect=CONNECT_S))


@asynccontextmanager
async def open_chat(provider: str, *, api_key: str | None, base_url: str | None) -> AsyncGenerator[Upstream | None]:
    """Where the provider answers chat requests; None where it has no such interface."""
    address = base_url or ADDRESSES.get(provider)
    if provider == "offline":
        yield OfflineChat()
    elif address is None:
        yield None
    else:
        async with _connections() as client:
            if api_key:
                client.headers["Authorization"] = f"Bearer {api_key}"
            yield Forwarded(client, address.rstrip("/"))


class ProviderNotInstalled(Exception):
    """MODEL_PROVIDER names a provider whose SDK is not among the dependencies."""


def _load(sdk: str, name: str) -> tuple[Any, Any, Any]:
    try:
        return (
            import_module(sdk),
            import_module(f"pydantic_ai.models.{name}"),
            import_module(f"pydantic_ai.providers.{name}"),
        )
    except ImportError:
        raise ProviderNotInstalled(
            f'MODEL_PROVIDER: the SDK of {name} is not installed; run: uv add "pydantic-ai-slim[{name}]"'
        ) from None
