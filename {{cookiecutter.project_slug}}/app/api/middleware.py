"""What wraps every request, as plain ASGI: id, size limit, security headers, metrics.

Size is counted as bytes arrive, so a chunked body without Content-Length is limited as well.
Gate: validation.
"""

import re
import time

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.context import request_id
from app.api.problems import problem, unexpected
from app.db.base import new_id
from app.errors import AppError, RequestMalformed, RequestTooLarge
from app.telemetry.metrics import HTTP_REQUESTS, HTTP_SECONDS

log = structlog.get_logger(__name__)
_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{8,64}$")
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
}


class RequestEnvelope:
    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app, self.max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        current = given if _REQUEST_ID.fullmatch(given) else new_id()
        token = request_id.set(current)
        started, status = time.perf_counter(), 500
        structlog.contextvars.bind_contextvars(request_id=current)

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = current
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._limited(scope, receive, send_marked)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            seconds = time.perf_counter() - started
            HTTP_REQUESTS.labels(scope["method"], route, str(status)).inc()
            HTTP_SECONDS.labels(route).observe(seconds)
            log.info("request", method=scope["method"], route=route, status=status, ms=round(seconds * 1000, 1))
            structlog.contextvars.clear_contextvars()
            request_id.reset(token)

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            await self._answer(RequestMalformed("The address may not contain the character NUL."), scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdigit() and int(declared) > self.max_bytes:
            await self._answer(self._too_large(), scope, receive, send)
            return
        body = _CountedBody(receive, send, self.max_bytes)
        try:
            await self.app(scope, body.receive, body.send)
        except Exception as error:
            if body.answered:
                raise
            if not body.too_large:
                await unexpected(error)(scope, receive, send)
        if body.too_large and not body.answered:
            await self._answer(self._too_large(), scope, receive, send)

    @staticmethod
    async def _answer(error: AppError, scope: Scope, receive: Receive, send: Send) -> None:
        await problem(error, {"Connection": "close"})(scope, receive, send)

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(f"A request may have at most {self.max_bytes} bytes.")


class _CountedBody:
    """Counts a request's bytes as they arrive, and holds back what the app says about one it could not finish."""

    def __init__(self, receive: Receive, send: Send, max_bytes: int) -> None:
        self._receive, self._send, self._left = receive, send, max_bytes
        self.answered = False

    @property
    def too_large(self) -> bool:
        return self._left < 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self.too_large:
            raise RequestTooLarge
        return message

    async def send(self, message: Message) -> None:
        if self.too_large:
            return  # the framework reports the interrupted body as malformed; the answer is ours
        self.answered = True
        await self._send(message)
