"""Tools of other people's servers (Model Context Protocol over HTTP), behind the same guard as our own.

What a tool does to the world is declared here by us, in config/tools.toml, and what the server says about its tools is
pinned in config/servers/<name>.json, which people review like code. A server whose tools, descriptions or schemas
differ from the pin gets no call: a description is a prompt, and one that changes after review is an attack or a mistake
("rug pull", OWASP ASI04). It is compared again before every call. Gate: security.
"""

import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx2
import structlog
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
)

from app.config_files import read_config
from app.policy.decision import Effect
from app.telemetry.metrics import TOOL_SERVER_CHANGED
from app.tools.egress import Egress
from app.tools.pinned import Manifest, ToolServersInvalid, arguments_of, open_places, read_pin, write_pin
from app.tools.spec import ToolContext, ToolFailure, ToolSpec

if TYPE_CHECKING:
    from mcp import ClientSession

log = structlog.get_logger(__name__)
MOST_PAGES = 20


class Use(BaseModel):
    """What we allow one tool of a server to be, whatever the server says."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    effect: Effect
    permission: str = Field(pattern=r"^[a-z_]+:[a-z_]+$")
    timeout_s: int = Field(10, ge=1, le=60)
    output_limit: int = Field(8_000, ge=100, le=100_000)
    idempotent: bool = False


class Server(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    url: str = Field(pattern=r"^https?://[^\s?#]+$")
    tools: dict[str, Use] = Field(min_length=1)


class ServersFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    servers: dict[str, Server] = Field(default_factory=dict)


class ToolServers:
    def __init__(self, servers: Mapping[str, Server], pins: Path, secrets: Mapping[str, SecretStr]) -> None:
        self.servers, self._pins, self._secrets = servers, pins, secrets

    @classmethod
    def load(cls, config: Path, secrets: Mapping[str, SecretStr]) -> "ToolServers":
        """Raises SettingsInvalid."""
        servers = read_config(config / "tools.toml", ServersFile).servers
        if servers:
            _session_class()  # now, because its import would hold up the event loop at the first call
        return cls(servers, config / "servers", secrets)

    def specs(self, name: str) -> tuple[ToolSpec, ...]:
        """The declared tools of a server, as its pin describes them. Raises ToolServersInvalid."""
        server = self._server(name)
        pin = self.pinned(name)
        missing = sorted(set(server.tools) - set(pin.tools))
        if missing:
            raise ToolServersInvalid(f"config/servers/{name}.json has no {', '.join(missing)}: app tools pin {name}")
        return tuple(self._spec(name, tool, use, pin) for tool, use in server.tools.items())

    def pinned(self, name: str) -> Manifest:
        self._server(name)
        return read_pin(self._pins / f"{name}.json")

    async def live(self, name: str, egress: Egress, deadline: timedelta = timedelta(seconds=10)) -> Manifest:
        """What the server says now."""
        async with self._session(name, egress, deadline) as session:
            return await _manifest(session)

    def pin(self, name: str, manifest: Manifest) -> Path:
        """Write down what was reviewed."""
        self._server(name)
        return write_pin(self._pins / f"{name}.json", manifest)

    def _server(self, name: str) -> Server:
        if name not in self.servers:
            known = ", ".join(sorted(self.servers)) or "none"
            raise ToolServersInvalid(f"config/tools.toml declares no server {name}; it declares: {known}")
        return self.servers[name]

    def _spec(self, name: str, tool: str, use: Use, pin: Manifest) -> ToolSpec:
        schema = dict(pin.tools[tool]["schema"])
        arguments = arguments_of(f"{name}_{tool}", schema)
        if use.effect is Effect.READ and (chosen := open_places(schema)):
            raise ToolServersInvalid(
                f"{name}.{tool}: with {', '.join(chosen)} the model chooses where to go; declare effect external_post"
            )

        async def call(context: ToolContext, root: dict[str, Any]) -> Any:
            return await self._call(context, name, tool, root, pin, timedelta(seconds=use.timeout_s))

        parts = urlsplit(self.servers[name].url)
        return ToolSpec(
            name=_plain(f"{name}_{tool}"),
            description=str(pin.tools[tool]["description"]) or tool,
            effect=use.effect,
            permission=use.permission,
            timeout=timedelta(seconds=use.timeout_s),
            output_limit=use.output_limit,
            idempotent=use.idempotent or use.effect is Effect.READ,
            arguments=arguments,
            function=call,
            result=TypeAdapter(Any),
            destinations=(f"{parts.scheme}://{parts.netloc}",),
        )

    async def _call(
        self, context: ToolContext, name: str, tool: str, root: dict[str, Any], pin: Manifest, deadline: timedelta
    ) -> Any:
        from mcp import MCPError  # noqa: PLC0415 - a second of imports that a process without tool servers does not need

        sent = False
        try:
            async with self._session(name, context.egress, deadline) as session:
                if (await _manifest(session)).digest != pin.digest:
                    TOOL_SERVER_CHANGED.labels(name).inc()
                    log.error("tool_server.changed", server=name, tool=tool)
                    raise ToolFailure("its server changed since it was reviewed, and is cut off", because="manifest")
                sent = True
                meta: Any = {"idempotency_key": context.idempotency_key}
                answer = await session.call_tool(tool, root, meta=meta)
        except (httpx2.HTTPError, MCPError):
            if sent:
                raise
            raise ToolFailure("its server cannot be reached") from None
        if answer.is_error:
            raise ToolFailure(f"its server says: {_text(answer)[:500]}")
        return answer.structured_content if answer.structured_content is not None else _text(answer)

    @asynccontextmanager
    async def _session(self, name: str, egress: Egress, deadline: timedelta) -> AsyncGenerator["ClientSession"]:
        from mcp.client.streamable_http import streamable_http_client  # noqa: PLC0415 - as above

        try:
            async with egress.client(deadline) as client:
                if secret := self._secrets.get(name):  # its own, and no other tool's
                    client.headers["Authorization"] = f"Bearer {secret.get_secret_value()}"
                async with (
                    streamable_http_client(self._server(name).url, http_client=client) as (read, write),
                    _session_class()(read, write, read_timeout_seconds=deadline.total_seconds()) as session,
                ):
                    await session.initialize()
                    yield session
        except BaseExceptionGroup as group:  # the client works in task groups of its own
            raise _innermost(group) from None


@cache
def _session_class() -> type["ClientSession"]:
    from mcp import ClientSession  # noqa: PLC0415 - as above
    from mcp.client import streamable_http  # noqa: F401, PLC0415 - as above

    class Session(ClientSession):
        async def validate_tool_result(self, name: str, result: Any) -> None:
            """Not here: it would run the server's own patterns on the server's own text, for as long as they take."""

    return Session


def _innermost(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _manifest(session: "ClientSession") -> Manifest:
    """Everything a model would be told about the server's tools, and nothing else."""
    tools: dict[str, dict[str, Any]] = {}
    listing = await session.list_tools()
    for _ in range(MOST_PAGES):
        tools |= {
            t.name: {"description": t.description or "", "schema": t.input_schema, "result": t.output_schema or {}}
            for t in listing.tools
        }
        if listing.next_cursor is None:
            break
        listing = await session.list_tools(params={"cursor": listing.next_cursor})  # type: ignore[arg-type]
    return Manifest(tools)


def _text(answer: Any) -> str:
    return "\n".join(str(part.text) for part in answer.content if getattr(part, "type", "") == "text")


def _plain(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", name)[:60]
