"""What wraps every request, as plain ASGI: id, rate, security headers, metrics. Gate: security, validation."""

import re
import time

import structlog
from secure import (
    ContentSecurityPolicy,
    CrossOriginOpenerPolicy,
    ReferrerPolicy,
    Secure,
    StrictTransportSecurity,
    XContentTypeOptions,
    XFrameOptions,
)
from secure.headers import CacheControl, PermissionsPolicy
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.context import request_id, speaks_openai
from app.api.limits import RateLimits, address_of
from app.api.openai_addresses import OPENAI_PATHS
from app.api.problems import problem, unexpected
from app.db.base import new_id
from app.errors import AppError, RequestMalformed
from app.telemetry.metrics import HTTP_REQUESTS, HTTP_SECONDS

log = structlog.get_logger(__name__)
# Every answer that is sent while it is made: a proxy that gathers it first would hold back its beginning.
STREAMED = {"Cache-Control": "no-cache, no-store", "X-Accel-Buffering": "no"}
_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{8,64}$")


def security_headers(*, https: bool) -> dict[str, str]:
    """Headers of every answer (OWASP ASVS 5.0, 3.4): nothing is framed, cached, sniffed or loaded from elsewhere."""
    policy = ContentSecurityPolicy().default_src("'none'").base_uri("'none'").frame_ancestors("'none'")
    policy = policy.style_src("'self'").script_src("'self'").img_src("'self'").form_action("'self'")
    headers = Secure(
        csp=policy,
        cache=CacheControl().no_store(),
        coop=CrossOriginOpenerPolicy().same_origin(),
        hsts=StrictTransportSecurity().max_age(63_072_000).include_subdomains() if https else None,
        permissions=PermissionsPolicy().geolocation().camera().microphone(),
        referrer=ReferrerPolicy().no_referrer(),
        xcto=XContentTypeOptions().nosniff(),
        xfo=XFrameOptions().deny(),
    ).headers
    return dict(headers)


class RequestEnvelope:
    def __init__(self, app: ASGIApp, limits: RateLimits, headers: dict[str, str]) -> None:
        self.app, self.limits, self.headers = app, limits, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        current = given if _REQUEST_ID.fullmatch(given) else new_id()
        token = request_id.set(current)
        speaks_openai.set(scope["path"] in OPENAI_PATHS)
        started, status = time.perf_counter(), 0
        structlog.contextvars.bind_contextvars(request_id=current)

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = _marked(message, current)
                for name, value in self.headers.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._received(scope, receive, send_marked)
        except ClientDisconnect:
            log.info("request.abandoned")
        except Exception as error:
            if status:  # the answer has begun: only an end can tell that it is broken
                raise
            await unexpected(error)(scope, receive, send_marked)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            seconds = time.perf_counter() - started
            HTTP_REQUESTS.labels(scope["method"], route, str(status or 499)).inc()
            HTTP_SECONDS.labels(route).observe(seconds)
            log.info("request", method=scope["method"], route=route, status=status, ms=round(seconds * 1000, 1))
            structlog.contextvars.clear_contextvars()
            request_id.reset(token)

    async def _received(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.limits.count("address", address_of(HTTPConnection(scope)))
            if "\0" in scope["path"] or b"%00" in scope["query_string"]:
                raise RequestMalformed("The address may not contain the character NUL.")
        except AppError as error:
            await problem(error, {"Connection": "close"})(scope, receive, send)
            return
        await self.app(scope, receive, send)


def _marked(start: Message, current: str) -> MutableHeaders:
    """The headers of an answer that is about to begin, for more to be added."""
    headers = MutableHeaders(scope=start)
    headers["X-Request-ID"] = current
    if headers.get("Content-Type", "").startswith("text/event-stream"):
        headers.update(STREAMED)
    return headers
