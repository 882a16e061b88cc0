"""Embeddings over the interface that OpenAI's clients speak, guarded as chat requests are.

Errors on this route have that interface's shape.
"""

import json
from typing import Annotated, Literal

from anyio.lowlevel import checkpoint
from fastapi import APIRouter, Response
from pydantic import BaseModel

from app.api.cache_control import CacheControl
from app.api.embedding_request import EmbeddingCreate
from app.api.guards import require
from app.api.state import RuntimeDep
from app.budgets.caps import Payer
from app.budgets.money import usd
from app.gateway.embedding_vectors import Encoding, written
from app.gateway.embeddings import Embedded
from app.identity.principal import Principal

router = APIRouter(prefix="/v1", tags=["embeddings"])


class EmbeddingItem(BaseModel):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str  # as `encoding_format` asks: a str is 32-bit floats in base64


class EmbeddingUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    object: Literal["list"]
    data: list[EmbeddingItem]
    model: str
    usage: EmbeddingUsage


@router.post("/embeddings", response_model=EmbeddingList)
async def create_embedding(
    principal: Annotated[Principal, require("chat:write", costly=True)],
    body: EmbeddingCreate,
    runtime: RuntimeDep,
    caching: CacheControl,
) -> Response:
    """A vector for each text. The same text has the same one, so it is given again at no cost for a while."""
    payer = Payer(principal.tenant_id, principal.member_id)
    embedded = await runtime.embeddings.embed(payer, await body.request(caching))
    headers = {"X-Model": embedded.model, "X-Cost-USD": usd(embedded.cost_micro)}
    if embedded.age is not None:  # RFC 9211, RFC 9111
        headers |= {"Cache-Status": "service; hit", "Age": str(int(embedded.age.total_seconds()))}
    content = await _content(embedded, body.encoding_format or "float")
    return Response(content, media_type="application/json", headers=headers)


async def _content(embedded: Embedded, encoding: Encoding) -> bytes:
    """The answer, written vector by vector: a thousand of them take a second, and others get their turn in it."""
    data = []
    for index, vector in enumerate(embedded.vectors):
        data.append(json.dumps({"object": "embedding", "index": index, "embedding": written(vector, encoding)}))
        await checkpoint()
    usage = {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens}
    head = json.dumps({"object": "list", "model": embedded.model, "usage": usage})
    return f'{head[:-1]}, "data": [{", ".join(data)}]}}'.encode()
