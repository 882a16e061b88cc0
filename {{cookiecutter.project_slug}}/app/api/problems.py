"""Every error as `application/problem+json` (RFC 9457), in one table; the only place with status codes.

The framework's own 404, 405 and 422 take the same shape, and no answer repeats an input value: the
stock handler echoes the input and answers 500 where that cannot be encoded. Gate: security, errors.
"""

import math
from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.routing import Route

from app.api.context import request_id, speaks_openai
from app.api.openai_addresses import way_out
from app.content.json_pointer import json_pointer
from app.errors import (
    AddressUnknown,
    AppError,
    MethodNotAllowed,
    ModelNotFound,
    NotFound,
    ProviderRefusedRequest,
    RateLimited,
    RequestInvalid,
    RequestMalformed,
    RequestTooLarge,
    Unexpected,
    UnsupportedMedia,
)
from app.telemetry.metrics import ERRORS
from app.telemetry.setup import report_exception

log = structlog.get_logger(__name__)
MOST_POINTERS = 20  # an answer must not grow with what was sent
MEDIA_TYPE = "application/problem+json"
# In the words of OpenAI's interface:
ABOUT_THE_REQUEST = (
    MethodNotAllowed, ModelNotFound, NotFound, ProviderRefusedRequest, RequestInvalid, RequestMalformed,
    RequestTooLarge, UnsupportedMedia,
)  # fmt: skip
_FRAMEWORK: dict[int, type[AppError]] = {
    400: RequestMalformed,
    404: NotFound,
    405: MethodNotAllowed,
    413: RequestTooLarge,
    415: UnsupportedMedia,
}


def problem(error: AppError, headers: dict[str, str] | None = None) -> Response:
    """The answer for an error, with the headers its status calls for."""
    row = error.row
    ERRORS.labels(row.code).inc()
    body: dict[str, Any] = {
        "type": f"/problems/{row.code}",
        "title": row.title,
        "status": row.status,
        "detail": error.detail,
        "code": row.code,
        "request_id": request_id.get(),
        "retryable": row.retryable,
    }
    if isinstance(error, RequestInvalid):
        body["errors"] = [{"pointer": pointer, "reason": reason} for pointer, reason in error.pointers]
    extra = dict(headers or {})
    if row.status == 401:
        extra["WWW-Authenticate"] = 'Bearer realm="api"'
    if row.status in {429, 503}:
        seconds = math.ceil(error.retry_after.total_seconds()) if error.retry_after else 30
        body["retry_after_s"] = seconds
        extra["Retry-After"] = str(seconds)
    if isinstance(error, RateLimited):
        # draft-ietf-httpapi-ratelimit-headers-10: structured fields, the policy by its name.
        name, quota, window = error.policy
        extra["RateLimit-Policy"] = f'"{name}";q={quota};w={window}'
        extra["RateLimit"] = f'"{name}";r=0;t={extra["Retry-After"]}'
    if speaks_openai.get():
        # Its clients would repeat by the status alone; this says better.
        extra["X-Should-Retry"] = str(row.retryable).lower()
        return JSONResponse(openai_error(error), row.status, extra)
    return JSONResponse(body, row.status, extra, MEDIA_TYPE)


def openai_error(error: AppError) -> dict[str, Any]:
    """The error in the shape that clients of OpenAI's interface read."""
    pointers = error.pointers if isinstance(error, RequestInvalid) else []
    reasons = "".join(f" {pointer}: {reason}." for pointer, reason in pointers)
    kind = "invalid_request_error" if isinstance(error, ABOUT_THE_REQUEST) else error.row.code.partition(".")[0]
    code, param = error.openai_code or error.row.code, error.param or (pointers[0][0] if pointers else None)
    told = {"message": error.detail + reasons, "type": kind, "code": code, "param": param}
    return {"error": told | {"request_id": request_id.get()}}


def install(app: FastAPI) -> None:
    app.add_exception_handler(AppError, _on_app_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_framework)
    app.add_exception_handler(Exception, _on_unexpected)


async def _on_app_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)  # noqa: S101 - narrows the framework's handler type
    if error.row.page:
        report_exception(error)
        log.error("error.paging", code=error.row.code)
    return problem(error)


async def _on_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    if any(issue["type"] == "json_invalid" for issue in error.errors()):
        return problem(RequestMalformed("The body is not valid JSON."))
    issues = error.errors()[:MOST_POINTERS]
    pointers = [(_pointer(issue, error.body), str(issue["msg"]).removeprefix("Value error, ")) for issue in issues]
    return problem(RequestInvalid(pointers=pointers))


def _pointer(issue: Mapping[str, Any], body: Any) -> str:
    """Relative to the body, without the names of kinds that the validator puts between; other places keep theirs."""
    location: tuple[Any, ...] = issue["loc"]
    if location[:1] != ("body",):
        return json_pointer(*location) or "/"
    inside, here = [], body
    for part in location[1:]:
        if isinstance(here, dict) and (part in here or issue["type"] == "missing"):
            inside.append(part)
            here = here.get(part)
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            inside.append(part)
            here = here[part]
    return json_pointer(*inside) or "/"


async def _on_framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    kind = _FRAMEWORK.get(error.status_code, Unexpected)
    headers = dict(error.headers or {})
    if kind is MethodNotAllowed:
        headers["Allow"] = ", ".join(_allowed_methods(request))
        if speaks_openai.get():
            return problem(MethodNotAllowed(f"This address takes {headers['Allow']}."), headers)
    if kind is NotFound and speaks_openai.get():
        served = {route.path for route in _routes(request)}
        return problem(AddressUnknown(way_out(request.url.path, served, request.app.state.public_url)), headers)
    return problem(kind(), headers)


def _allowed_methods(request: Request) -> list[str]:
    """Every method of this path; the framework names only those of the first route it meets.

    A path that fits a template as well, such as /v1/keys/own, has its own alone: concrete paths are matched before
    templated ones (OpenAPI 3.1, Paths Object)."""
    here = [route for route in _routes(request) if route.path_regex.match(request.url.path)]
    least = min((len(route.param_convertors) for route in here), default=0)
    closest = [route for route in here if len(route.param_convertors) == least]
    return sorted({method for route in closest for method in route.methods or ()})


def _routes(request: Request) -> list[Route]:
    routes = [context.route for context in iter_route_contexts(request.app.routes)]
    return [route for route in routes if isinstance(route, Route)]


async def _on_unexpected(_request: Request, error: Exception) -> Response:
    return unexpected(error)


def unexpected(error: Exception) -> Response:
    """The answer to a bug: what it was goes on record, and the caller learns an id to quote."""
    report_exception(error)
    log.error("error.unexpected", exc_info=error)
    return problem(Unexpected(), {"Connection": "close"})
