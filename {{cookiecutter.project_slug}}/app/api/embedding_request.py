"""What may be asked for embeddings: OpenAI's parameters, each within bounds. Gate: cost, validation.

Tokens are turned into their text, because personal data cannot be found in numbers.
"""

from typing import Annotated, Any, Literal, cast

import anyio
from pydantic import Discriminator, Field, StringConstraints, Tag

from app.api.schemas import NO_NUL, Integral, Strict
from app.content.token_texts import LARGEST, texts_of
from app.gateway.cache import CachePolicy
from app.gateway.embeddings import EmbeddingRequest

MAX_TEXTS, MAX_TOKENS = 2_048, 8_192  # of a request, and of a text, by OpenAI's reference of this interface
MAX_DIMENSIONS = 8_192
Text = Annotated[str, StringConstraints(min_length=1, max_length=400_000, pattern=NO_NUL)]
Texts = Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS, fail_fast=True)]
Tokens = Annotated[
    list[Annotated[int, Field(ge=0, le=LARGEST)]], Field(min_length=1, max_length=MAX_TOKENS, fail_fast=True)
]
Tokenized = Annotated[list[Tokens], Field(min_length=1, max_length=MAX_TEXTS, fail_fast=True)]


def _kind(value: Any) -> str:
    """Which of the four it is meant to be, by its first item: each of them would name mistakes of its own."""
    if not isinstance(value, list):
        return "text"
    first = value[0] if value else ""
    if isinstance(first, list):
        return "tokenized texts"
    return "tokens" if isinstance(first, int | float) else "texts"


class EmbeddingCreate(Strict):
    model: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,119}$")]
    input: Annotated[
        Annotated[Text, Tag("text")]
        | Annotated[Texts, Tag("texts")]
        | Annotated[Tokens, Tag("tokens")]
        | Annotated[Tokenized, Tag("tokenized texts")],
        Discriminator(_kind),
        Field(description="a text or several, each as characters or as tokens of cl100k_base"),
    ]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=MAX_DIMENSIONS), Integral] | None = None
    user: Annotated[str, StringConstraints(max_length=200, pattern=NO_NUL)] | None = Field(
        None, description="taken and not passed on: the provider learns of no user"
    )

    async def request(self, caching: CachePolicy) -> EmbeddingRequest:
        return EmbeddingRequest(self.model, await self._texts(), self.dimensions, caching)

    async def _texts(self) -> list[str]:
        if isinstance(self.input, str):
            return [self.input]
        match _kind(self.input):
            case "texts":
                return cast("list[str]", self.input)
            case "tokens":
                many = [cast("list[int]", self.input)]
            case _:
                many = cast("list[list[int]]", self.input)
        return await anyio.to_thread.run_sync(texts_of, many)
