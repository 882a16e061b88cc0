"""A small HTTP server on a free loopback port, for the counterparts of a proof."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Handle = Callable[[BaseHTTPRequestHandler, bytes], None]


class _Server(ThreadingHTTPServer):
    # As many callers at once as a proof has; of the default's five, the sixth waits for its TCP to try again.
    request_queue_size = 1024


@contextmanager
def listening(handle: Handle, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Answer every request with `handle(request, body)` until the block ends; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            with suppress(BrokenPipeError, ConnectionResetError):  # the caller may have given up
                handle(self, body)

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = _any  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = _Server((host, port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def respond(
    request: BaseHTTPRequestHandler, status: int, body: bytes, content_type: str, headers: dict[str, str] | None = None
) -> None:
    request.send_response(status)
    for name, value in {"Content-Type": content_type, "Content-Length": str(len(body)), **(headers or {})}.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(body)
