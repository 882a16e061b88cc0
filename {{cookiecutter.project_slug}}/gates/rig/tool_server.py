"""Somebody else's tool server: a real one of the Model Context Protocol, whose mind a proof can change."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import CallToolRequestParams, CallToolResult, ListToolsResult, PaginatedRequestParams, TextContent, Tool
from starlette.applications import Starlette
from starlette.routing import Mount

from gates.rig.service import free_ports, wait_for

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 40}},
    "required": ["name"],
}


@dataclass
class ToolServer:
    url: str = ""
    description: str = "Look a contact up."
    note_schema: dict[str, Any] = field(default_factory=lambda: dict(SCHEMA))
    extra: list[Tool] = field(default_factory=list)
    called: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def tools(self) -> list[Tool]:
        find = Tool(name="find", description=self.description, input_schema=dict(SCHEMA))
        note = Tool(name="note", description="Write a note about a contact.", input_schema=self.note_schema)
        return [find, note, *self.extra]


@contextmanager
def tool_server() -> Iterator[ToolServer]:
    made = ToolServer()

    async def listed(_context: Any, _params: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=made.tools())

    async def called(_context: Any, params: CallToolRequestParams) -> CallToolResult:
        made.called.append((params.name, dict(params.arguments or {})))
        return CallToolResult(content=[TextContent(type="text", text=f"{params.name} is done")])

    manager = StreamableHTTPSessionManager(Server("rig", on_list_tools=listed, on_call_tool=called), stateless=True)
    app = Starlette(routes=[Mount("/mcp", app=_recording(made, manager))], lifespan=lambda _app: manager.run())
    [port] = free_ports(1)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    made.url = f"http://127.0.0.1:{port}/mcp/"
    try:
        wait_for(lambda: server.started)
        yield made
    finally:
        server.should_exit = True
        thread.join(10)


def _recording(made: ToolServer, manager: StreamableHTTPSessionManager) -> Any:
    async def handle(scope: Any, receive: Any, send: Any) -> None:
        made.headers.append({name.decode(): value.decode() for name, value in scope["headers"]})
        await manager.handle_request(scope, receive, send)

    return handle
