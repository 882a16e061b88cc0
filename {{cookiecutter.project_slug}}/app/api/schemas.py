"""Shared shapes of the HTTP API: strict in, explicit out. Gate: access, validation."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainSerializer, StringConstraints, field_validator

from app.content.invisible import cleaned


class Strict(BaseModel):
    """A request body: unknown fields are refused and nothing is coerced."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @field_validator("*", mode="before")
    @classmethod
    def _without_nul(cls, value: Any) -> Any:
        if isinstance(value, str) and "\0" in value:
            raise ValueError("the character NUL is not allowed")
        return value


def visible(value: Any) -> Any:
    """A name as it is seen: what is hidden in it is dropped."""
    return cleaned(value) if isinstance(value, str) and "\0" not in value else value


Instant = Annotated[datetime, PlainSerializer(lambda t: t.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), return_type=str)]
Id = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
Usd = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,7}(\.[0-9]{1,6})?$")]
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=300)]
