"""Lists are `{items, next}`; `next` is the cursor of the following page or null."""

from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel

Item = TypeVar("Item", bound=BaseModel)
PAGE_SIZE = 50

Cursor = Annotated[
    str | None, Query(alias="cursor", pattern=r"^[0-9a-f-]{36}$", description="`next` of the page before")
]
Limit = Annotated[int, Query(ge=1, le=200)]


class Page(BaseModel, Generic[Item]):
    items: list[Item]
    next: str | None
