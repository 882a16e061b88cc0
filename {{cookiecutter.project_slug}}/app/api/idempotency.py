"""The Idempotency-Key header (draft-ietf-httpapi-idempotency-key-header). Gate: validation."""

import re
from typing import Annotated

from fastapi import Depends, Header

from app.errors import IdempotencyKeyMissing

VISIBLE = re.compile(r"^[\x21-\x7e]{1,255}$")


async def _required(
    idempotency_key: Annotated[
        str | None, Header(description="1 to 255 visible ASCII characters; one per intent")
    ] = None,
) -> str:
    if idempotency_key is None or not VISIBLE.fullmatch(idempotency_key):
        raise IdempotencyKeyMissing
    return idempotency_key


IdempotencyKey = Annotated[str, Depends(_required)]
