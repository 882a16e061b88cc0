"""How the environment writes lists and mappings: as JSON, or lists separated by commas. Gate: deployment."""

import json
from typing import Annotated, Any

from pydantic import BeforeValidator, IPvAnyNetwork, SecretStr, StringConstraints
from pydantic_settings import NoDecode


def _listed(value: Any) -> Any:
    """A list as JSON or separated by commas, as the environment can say it."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return _decoded(value, 'a JSON list such as ["a", "b"], or a, b')
    return [item.strip() for item in value.split(",") if item.strip()]


def _mapped(value: Any) -> Any:
    return _decoded(value, 'a JSON object such as {"name": "value"}') if isinstance(value, str) else value


def _decoded(value: str, form: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError(f"must be {form}") from None


# The settings library would decode JSON before any validator, and end in a traceback for what is none.
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
Networks = Annotated[tuple[IPvAnyNetwork, ...], NoDecode, BeforeValidator(_listed)]
Secrets = Annotated[dict[str, SecretStr], NoDecode, BeforeValidator(_mapped)]
Regions = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")], ...], NoDecode, BeforeValidator(_listed)
]  # ISO 3166
PHONE_REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "PL", "IN", "BR", "IL")  # unless a setting says others
