"""Where a conversation goes and who pays for it is said by this service's settings, not by variables of an SDK."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic_ai import ModelRequest
from pydantic_ai.exceptions import AgentRunError
from pydantic_ai.messages import UserPromptPart
from pydantic_ai.models import ModelRequestParameters

from app.gateway.forwarding import ADDRESSES
from app.gateway.providers import open_chat, open_model

pytestmark = pytest.mark.anyio
KEY = "key-of-the-settings"


@contextmanager
def _listening() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that refuses every request, and the headers of those it has had."""
    seen: list[dict[str, str]] = []

    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            seen.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(400)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, str]]]:
    """The SDKs' own variables lead to another server, with other keys, accounts and headers."""
    with _listening() as (url, seen):
        hostile = {
            "OPENAI_API_KEY": "hostile",
            "OPENAI_ADMIN_KEY": "hostile",
            "OPENAI_BASE_URL": url,
            "OPENAI_ORG_ID": "hostile",
            "OPENAI_PROJECT_ID": "hostile",
            "OPENAI_CUSTOM_HEADERS": "X-Hostile: hostile",
            "AZURE_OPENAI_ENDPOINT": url,
            "ANTHROPIC_API_KEY": "hostile",
            "ANTHROPIC_AUTH_TOKEN": "hostile",
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_CUSTOM_HEADERS": "X-Hostile: hostile",
            "ANTHROPIC_PROFILE": "hostile",
            "GOOGLE_API_KEY": "hostile",
            "GEMINI_API_KEY": "hostile",
            "GOOGLE_GENAI_USE_VERTEXAI": "true",
            "GOOGLE_GEMINI_BASE_URL": url,
        }
        for name, value in hostile.items():
            monkeypatch.setenv(name, value)
        yield seen
        assert {name: os.environ.get(name) for name in hostile} == hostile, "other code may use them"


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_an_sdk_s_variables_lead_nowhere(provider: str, elsewhere: list[dict[str, str]]) -> None:
    with _listening() as (url, seen):
        async with open_model(provider, "some-model", api_key=KEY, base_url=url) as model:
            messages = [ModelRequest(parts=[UserPromptPart("Hello.")])]
            with pytest.raises(AgentRunError):
                await model.request(list(messages), None, ModelRequestParameters())
    assert elsewhere == []
    [headers] = seen
    assert KEY in {headers.get("authorization", "").removeprefix("Bearer "), headers.get("x-api-key")}
    assert "hostile" not in str(headers).lower()


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_without_an_address_it_is_the_vendor_s(provider: str, elsewhere: list[dict[str, str]]) -> None:
    vendor = ADDRESSES[provider].removesuffix("/v1")
    async with open_model(provider, "some-model", api_key=KEY, base_url=None) as model:
        assert str(model.base_url).startswith(vendor)
    async with open_chat(provider, api_key=KEY, base_url=None) as chat:
        assert str(getattr(chat, "url", "")) == ADDRESSES[provider]
