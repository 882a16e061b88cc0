"""Shared shapes of the HTTP API: strict in, explicit out. Gate: access, validation."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, StringConstraints, field_validator

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


def has_nul(value: Any) -> bool:
    """Whether there is the character NUL in any text of a JSON value."""
    match value:
        case str():
            return "\0" in value
        case dict():
            return any(has_nul(key) or has_nul(item) for key, item in value.items())
        case list():
            return any(map(has_nul, value))
    return False


def visible(value: Any) -> Any:
    """A name as it is seen: what is hidden in it is dropped."""
    return cleaned(value) if isinstance(value, str) and "\0" not in value else value


def bounded(most: int) -> BeforeValidator:
    """So many characters as they were sent, before anything is stripped or dropped: what the contract says."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and len(value) > most:
            raise ValueError(f"at most {most} characters")
        return value

    return BeforeValidator(check)


def _integral(value: Any) -> Any:
    """JSON has one kind of number: 5.0 is the integer 5 (JSON Schema 2020-12, 4.2.3)."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Integral = BeforeValidator(_integral)  # for a whole number in a body: Annotated[int, Field(ge=…, le=…), Integral]
# The contract says by these patterns what else would be refused by words alone.
BASE64 = r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
NO_NUL = r"^[^\x00]*$"
NOT_BLANK = r"^[^\x00]*[^\x00\s][^\x00]*$"
# Something that can be seen; spelled out, as \w is another set of characters in each language that reads a contract.
NAMING = r"^[^\x00]*[0-9A-Z_a-z\u00c0-\u1fff\u2c00-\ud7ff\uf900-\ufdff][^\x00]*$"
THREE_CHARACTERS = r"^[^\x00]*[^\x00\s][^\x00]+[^\x00\s][^\x00]*$"
Instant = Annotated[datetime, PlainSerializer(lambda t: t.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), return_type=str)]
Id = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
Usd = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,6})(\.[0-9]{1,6})?$")]
MIN_REASON, MAX_REASON = 3, 300  # characters
Reason = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=MIN_REASON, max_length=MAX_REASON, pattern=THREE_CHARACTERS),
    bounded(MAX_REASON),
]
Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=80, pattern=NAMING),
    BeforeValidator(visible),
    bounded(80),
]
