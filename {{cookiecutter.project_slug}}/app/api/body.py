"""A request's body before anything parses it: one plain JSON document in UTF-8, of limited size, in limited time.

A compressed body is refused whole, because it could unpack to any size. Gate: validation.
"""

from collections.abc import Callable

import anyio
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from app.content.plain_json import NotJson, NotPlain, plain_json
from app.errors import (
    AppError,
    HeadersTooLarge,
    RequestInvalid,
    RequestMalformed,
    RequestTimedOut,
    RequestTooLarge,
    UnsupportedMedia,
)

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
FORMS_BELOW = "/console"  # pages send forms; everything else speaks JSON
MOST_SECONDS = 30  # for a body to arrive whole
MOST_HEADERS, MOST_HEADER_BYTES = 100, 32_000
# Two of these, and a proxy may read the first where this service reads the last.
ONCE = (b"authorization", b"content-type", b"content-encoding", b"content-length", b"host", b"idempotency-key")


def declared(headers: Headers, max_bytes: int) -> int | None:
    """How long the body says it is; None where it comes in chunks. Raises RequestTooLarge."""
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or int(length) > max_bytes:
        raise _too_large(max_bytes)
    return None if "transfer-encoding" in headers else int(length)


async def read(scope: Scope, receive: Receive, max_bytes: int, count: Callable[[int], None]) -> bytes:
    """The body of a request, once it has arrived whole and can be read. Raises the AppError that says why not.

    Bytes are counted as they arrive, so a chunked body without Content-Length is limited as well. `count` is told of
    each piece, and may refuse it."""
    raw = bytearray()
    with anyio.move_on_after(MOST_SECONDS) as patience:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            raw += message.get("body", b"")
            if len(raw) > max_bytes:
                raise _too_large(max_bytes)
            count(len(message.get("body", b"")))
            if not message.get("more_body"):
                break
    if patience.cancelled_caught:
        raise RequestTimedOut(f"The body did not arrive within {MOST_SECONDS} seconds.")
    if raw:
        _require_readable(Headers(scope=scope), scope["path"], bytes(raw))
    return bytes(raw)


def require_plain_headers(scope: Scope) -> None:
    names = [name for name, _ in scope["headers"]]
    size = sum(len(name) + len(value) for name, value in scope["headers"])
    if size > MOST_HEADER_BYTES or len(names) > MOST_HEADERS:
        raise HeadersTooLarge(f"A request may have {MOST_HEADERS} headers of {MOST_HEADER_BYTES} bytes together.")
    twice = next((name for name in ONCE if names.count(name) > 1), None)
    if twice is not None:
        raise RequestMalformed(f"The header {twice.decode().title()} was sent more than once.")


def require_kind(headers: Headers, path: str) -> None:
    """Raise UnsupportedMedia for what the headers alone say cannot be read."""
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding not in {"", "identity"}:
        raise UnsupportedMedia("Compressed bodies are not accepted: send the body as it is.")
    kind, options = parse_options_header(headers.get("content-type", ""))
    expected = FORM if path.startswith(FORMS_BELOW) else JSON
    charset = options.get(b"charset", b"utf-8").lower()
    if kind.lower() != expected.encode() or charset not in {b"utf-8", b"utf8"}:
        raise UnsupportedMedia(f"Send the body as {expected}, in UTF-8.")


def _require_readable(headers: Headers, path: str, raw: bytes) -> None:
    require_kind(headers, path)
    if not path.startswith(FORMS_BELOW):
        try:
            plain_json(raw)
        except NotJson as error:
            raise RequestMalformed(f"The body cannot be read: {error}.") from None
        except NotPlain as error:
            raise RequestInvalid(pointers=[("", str(error))]) from None


def _too_large(max_bytes: int) -> AppError:
    return RequestTooLarge(f"A request may have at most {max_bytes} bytes.")
