"""Documents of a request: text as it is, or files, which are checked and read before anything else sees them.

Gate: validation.
"""

import base64
import hashlib
import math
from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from app.api.schemas import BASE64, NAMING, NO_NUL, Strict, bounded, visible
from app.content.documents import MOST_BYTES, MOST_CHARACTERS, DocumentRefused, text_of
from app.content.readers import ReadersBusy
from app.errors import RateLimited, RequestInvalid


class Document(Strict):
    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": [name], "properties": {name: {"type": "string"}, other: {"type": "null"}}}
                for name, other in (("text", "content_base64"), ("content_base64", "text"))
            ]
        }
    )
    name: Annotated[
        str,
        StringConstraints(strip_whitespace=True, min_length=1, max_length=120, pattern=NAMING),
        BeforeValidator(visible),
        bounded(120),
    ]
    text: Annotated[str, StringConstraints(min_length=1, max_length=MOST_CHARACTERS, pattern=NO_NUL)] | None = None
    content_base64: (
        Annotated[str, StringConstraints(min_length=1, max_length=MOST_BYTES * 4 // 3 + 4, pattern=BASE64)] | None
    ) = Field(None, description="a file instead of text: .pdf, .docx or plain text, told by its bytes")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.text is None) == (self.content_base64 is None):
            raise ValueError("give either text or content_base64")
        return self


def as_sent(documents: Sequence[Document]) -> tuple[dict[str, str], ...]:
    """What tells one request's documents from another's, without reading a file: its digest in place of its text."""
    return tuple(
        {"name": document.name, "text": document.text or ""}
        if document.content_base64 is None
        else {"name": document.name, "sha256": hashlib.sha256(document.content_base64.encode()).hexdigest()}
        for document in documents
    )


async def texts(documents: Sequence[Document], tenant_id: str) -> tuple[dict[str, str], ...]:
    """Name and text of each document. Costly: not before a request is known to be new, wanted and paid for.

    Raises RequestInvalid pointing at a file that cannot be read, RateLimited where the tenant sends too many."""
    read = []
    for number, document in enumerate(documents):
        read.append({"name": document.name, "text": document.text or await _read(document, number, tenant_id)})
    return tuple(read)


async def _read(document: Document, number: int, tenant_id: str) -> str:
    try:
        raw = base64.b64decode(document.content_base64 or "", validate=True)
        return await text_of(document.name, raw, tenant_id)
    except ReadersBusy as busy:
        policy = ("documents", busy.limit, math.ceil(busy.retry_after.total_seconds()))
        raise RateLimited(policy, busy.retry_after) from None
    except ValueError:
        reason = "not base64"
    except DocumentRefused as refusal:
        reason = str(refusal)
    raise RequestInvalid(pointers=[(f"/documents/{number}/content_base64", reason)])
