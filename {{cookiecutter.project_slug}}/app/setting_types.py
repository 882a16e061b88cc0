"""How the environment writes lists, mappings and addresses. Lists are JSON, or separated by commas.

What cannot be used is refused here, by the name of its key, and not by the part of the service that would use it.
Gate: deployment.
"""

import json
import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, IPvAnyNetwork, SecretStr, StringConstraints
from pydantic_settings import BaseSettings, NoDecode
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError


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


_DEFAULT_PORTS = {"http": 80, "https": 443}
_NOT_IN_ADDRESSES = re.compile(r"[^\x21-\x7e]|[\\<>\"`{}|^]")


def _web_address(text: str) -> str:
    """An address of the web with a host; nothing that two readers could read differently."""
    try:
        parts = urlsplit(text)
        is_one = parts.scheme in _DEFAULT_PORTS and parts.hostname and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one or _NOT_IN_ADDRESSES.search(text):
        raise ValueError("must be an http:// or https:// address, its host in ASCII")
    return text


def _is_more_than_origin(address: str) -> bool:
    parts = urlsplit(address)
    return bool(parts.path.strip("/") or parts.query or parts.fragment) or parts.username is not None


def _public_url(text: str) -> str:
    if _is_more_than_origin(_web_address(text)):
        raise ValueError("without a path; the service answers at the root of its own host name")
    return text


def _origin(text: str) -> str:
    """An origin as browsers write it: in small letters, without a default port or a slash at its end."""
    if text == "*":
        return text  # refused where it matters, with the reason
    if _is_more_than_origin(_web_address(text)):
        raise ValueError("must be an origin such as https://docs.example.com")
    parts = urlsplit(text)
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    port = "" if parts.port in {None, _DEFAULT_PORTS[parts.scheme]} else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def _sentry_dsn(text: str) -> str:
    if not re.fullmatch(r"https?://[^@/?#]+@[^@?#]+/\d+", _web_address(text)):
        raise ValueError("must be as Sentry shows it: https://KEY@HOST/NUMBER")
    return text


def _database_url(text: str) -> str:
    try:
        make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError(
            "cannot be read: postgresql://USER:PASSWORD@HOST:PORT/NAME, special characters as %XX"
        ) from None
    return text


def _seen(secret: SecretStr) -> SecretStr:
    """A secret of nothing that is seen is a missing one, and is refused as such rather than sent."""
    if not any(char.isprintable() and not char.isspace() for char in secret.get_secret_value()):
        raise ValueError("must not be blank: give a value or leave the key out")
    return secret


def _in_a_header(secret: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[\x21-\x7e]+", _seen(secret).get_secret_value()):
        raise ValueError("must be visible ASCII characters without spaces: it is sent in a header")
    return secret


def _each_in_a_header(secrets: dict[str, SecretStr]) -> dict[str, SecretStr]:
    return {name: _in_a_header(secret) for name, secret in secrets.items()}


# The settings library would decode JSON before any validator, and end in a traceback for what is none.
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
SentryDsn = Annotated[str, AfterValidator(_sentry_dsn)]
DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
Origins = Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], NoDecode, BeforeValidator(_listed)]
Networks = Annotated[tuple[IPvAnyNetwork, ...], NoDecode, BeforeValidator(_listed)]
Secret = Annotated[SecretStr, AfterValidator(_seen)]
HeaderSecret = Annotated[SecretStr, AfterValidator(_in_a_header)]
Secrets = Annotated[dict[str, SecretStr], NoDecode, BeforeValidator(_mapped), AfterValidator(_each_in_a_header)]
Regions = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")], ...], NoDecode, BeforeValidator(_listed)
]  # ISO 3166
LIMIT_STORAGES = (
    *(
        f"{scheme}://"
        for name in ("redis", "valkey")
        for scheme in (name, f"{name}s", f"{name}+unix", f"{name}+cluster", f"{name}+sentinel")
    ),
    "memcached://",
)
PHONE_REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "PL", "IN", "BR", "IL")  # unless a setting says others


class Artefact(BaseSettings):
    """Which artefact runs, for `/version`: an image says which source it was built from, a deployment which image."""

    source_commit: str | None = Field(None, pattern=r"^[0-9a-f]{7,64}(-dirty)?$")
    image_digest: str | None = Field(None, pattern=r"^sha256:[0-9a-f]{64}$")
