"""A model provider on a socket that speaks the OpenAI chat format and does what a test tells it.

It keeps its own ledger of requests, because a check that asks the service what it sent proves nothing.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[dict[str, Any]], tuple[int, Any]]


def says(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def calls(tool: str, arguments: Any, call_id: str = "call_1") -> dict[str, Any]:
    encoded = arguments if isinstance(arguments, str) else json.dumps(arguments)
    function = {"name": tool, "arguments": encoded}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": call_id, "type": "function", "function": function}],
    }


def completion(message: dict[str, Any], *, usage: bool = True) -> dict[str, Any]:
    finish = "tool_calls" if message.get("tool_calls") else "stop"
    body: dict[str, Any] = {
        "id": "completion",
        "object": "chat.completion",
        "created": 1,
        "model": "stub",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }
    if usage:
        body["usage"] = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
    return body


@dataclass
class Provider:
    """`script` is what it answers, request after request; the last answer repeats."""

    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    script: list[Reply] = field(default_factory=list)

    def answers(self, *messages: dict[str, Any], usage: bool = True) -> None:
        self.script = [_always(200, completion(message, usage=usage)) for message in messages]

    def fails(self, status: int, body: Any = None) -> None:
        self.script = [_always(status, body or {"error": {"message": "from the provider", "type": "stub"}})]

    def hangs(self, seconds: float) -> None:
        def wait(_request: dict[str, Any]) -> tuple[int, Any]:
            time.sleep(seconds)
            return 200, completion(says("too late"))

        self.script = [wait]

    def next_reply(self, request: dict[str, Any]) -> tuple[int, Any]:
        self.requests.append(request)
        return self.script[min(len(self.requests), len(self.script)) - 1](request)


def _always(status: int, body: Any) -> Reply:
    return lambda _request: (status, body)


@contextmanager
def provider() -> Iterator[Provider]:
    stub = Provider()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, body = stub.next_reply(request)
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            with suppress(BrokenPipeError):  # the caller may have given up
                self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
