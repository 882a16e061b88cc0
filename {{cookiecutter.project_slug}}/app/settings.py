"""Typed environment, read once by the composition root.

Outside development the service refuses to start on a missing, default, weak or contradictory
value, and names every offending key at once. Start-up, `app doctor` and CI share this validator.
Gate: deployment.
"""

import os
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import SettingsConfigDict
from sqlalchemy.engine import URL, make_url

from app.config_files import ServiceIdentity, SettingsInvalid
from app.setting_oidc import oidc_gaps
from app.setting_types import (
    LIMIT_STORAGES,
    PHONE_REGIONS,
    Artefact,
    DatabaseUrl,
    HeaderSecret,
    Names,
    Networks,
    Origins,
    PublicUrl,
    Regions,
    Secret,
    Secrets,
    SentryDsn,
    WebAddress,
)

ROOT = Path(__file__).resolve().parent.parent
DEVELOPMENT_SECRET = "development-only-not-a-secret"  # noqa: S105 - refused outside development


def sqlite_url(file: Path) -> str:
    """The address of an SQLite file, whatever its path holds."""
    return URL.create("sqlite", database=str(file)).render_as_string()


class Settings(Artefact):
    # Of the service's own folder, so that `app` does the same wherever it is called. ENV_FILE names another.
    model_config = SettingsConfigDict(
        env_file=os.environ.get("ENV_FILE", str(ROOT / ".env")),
        env_file_encoding="utf-8-sig",
        env_ignore_empty=True,  # compose passes `KEY=` for a value that is not set
        extra="ignore",
    )

    environment: Literal["development", "test", "staging", "production"] = "development"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "text"] | None = None  # None: text for development, JSON elsewhere

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    operations_host: str = "127.0.0.1"  # where the inside of the network reaches it; never a public address
    operations_port: int = Field(9000, ge=0, le=65535)  # of web and worker alike: each process needs one
    public_url: PublicUrl = "http://127.0.0.1:8000"  # with PORT, where nothing is said

    database_url: DatabaseUrl = "sqlite:///data/app.db"
    # With sessions of its own, where DATABASE_URL leads to a pooler without.
    direct_database_url: DatabaseUrl | None = None
    database_timeout_s: int = Field(10, ge=1, le=60)  # of a transaction; then it is answered with 503
    migration_database_url: DatabaseUrl | None = (
        None  # the owner's, for `app migrate`; the service needs no such powers
    )
    session_secret: Secret = SecretStr(DEVELOPMENT_SECRET)
    config_dir: Path = ROOT / "config"

    model_provider: Literal["offline", "openai", "anthropic", "google", "bedrock"] = "offline"
    model_api_key: HeaderSecret | None = None
    model_base_url: WebAddress | None = None
    chat_base_url: WebAddress | None = (
        None  # the provider's OpenAI-compatible interface, where that is not MODEL_BASE_URL
    )
    model_max_tokens: int = Field(900, ge=1, le=32_000)
    model_timeout_ms: int = Field(9_000, ge=100, le=120_000)  # of so many tokens, or of a stream's next piece
    model_total_timeout_ms: int = Field(120_000, ge=100, le=120_000)  # of a stream, and of long answers

    run_max_model_calls: int = Field(12, ge=1, le=100)
    run_max_tool_calls: int = Field(20, ge=1, le=200)
    run_timeout_s: int = Field(120, ge=1, le=3600)
    require_distinct_key_holders: bool = True  # of who asks for an action and who approves it, see docs/access.md
    approval_ttl_s: int = Field(3600, ge=1, le=86_400)
    request_max_bytes: int = Field(1_000_000, ge=1_000, le=50_000_000)
    request_bytes_in_flight: int = Field(64_000_000, ge=1_000, le=10_000_000_000)  # of all bodies that a process holds
    client_stall_s: int = Field(30, ge=1, le=3600)  # a client that reads nothing for so long is cut off
    worker_concurrency: int = Field(8, ge=1, le=256)
    embedded_worker: bool = True
    shutdown_grace_s: int = Field(30, ge=1, le=3600)  # of a worker, from the signal on; the platform must allow more

    # An OpenID Connect provider, from here alone: nothing a token says about its keys is believed.
    oidc_issuer: WebAddress | None = None
    oidc_audience: str | None = None  # of access tokens: this API
    oidc_jwks_url: WebAddress | None = None
    oidc_algorithms: Names = ("RS256", "ES256")
    oidc_token_type: str = "at+jwt"  # noqa: S105 - RFC 9068; some providers write JWT
    oidc_client_id: str | None = None  # with the two addresses below people sign in to the console
    oidc_client_secret: Secret | None = None
    oidc_authorization_url: WebAddress | None = None
    oidc_token_url: WebAddress | None = None

    # Of a Redis, Valkey or Memcached that all processes count in; empty: each process counts for itself.
    rate_limit_storage_url: str = ""
    rate_limit_storage_timeout_ms: int = Field(250, ge=10, le=20_000)  # of each question to it
    trusted_proxies: Networks = ()  # whose X-Forwarded-For says where a request comes from
    cors_origins: Origins = ()  # browser origins that may read the API, exactly
    egress_allow: Origins = ()  # origins that tools may reach
    answer_links_allow: Origins = ()  # origins that an agent's answer may link to
    tool_secrets: Secrets = Field(default_factory=dict)  # by name of the tool server
    phone_regions: Regions = PHONE_REGIONS  # whose phone numbers are personal data without a country's code
    sentry_dsn: SentryDsn | None = None
    otel_exporter_otlp_endpoint: WebAddress | None = None

    @field_validator("database_url")
    @classmethod
    def _below_the_service(cls, url: str) -> str:
        if not url.startswith("sqlite:///"):
            return url
        path = make_url(url).database  # decoded: a `?` or `%` of a folder's name is syntax in a URL
        return url if path in {None, "", ":memory:"} or Path(str(path)).is_absolute() else sqlite_url(ROOT / str(path))

    @property
    def is_sqlite(self) -> bool:
        return self.database_url.startswith("sqlite")

    @property
    def sqlite_file(self) -> Path:
        """Where an SQLite database is."""
        return Path(str(make_url(self.database_url).database))

    @property
    def owner_database_url(self) -> str:
        """Where migrations run: the same database, by a role that may change its schema."""
        return self.migration_database_url or self.session_database_url

    @property
    def session_database_url(self) -> str:
        """The same database for what needs a session for longer than a transaction: see `app.db.sessions`."""
        return self.direct_database_url or self.database_url

    @property
    def model_timeout(self) -> timedelta:
        return timedelta(milliseconds=self.model_timeout_ms)

    @property
    def model_total_timeout(self) -> timedelta:
        return timedelta(milliseconds=self.model_total_timeout_ms)

    @property
    def rate_limit_storage_timeout(self) -> timedelta:
        return timedelta(milliseconds=self.rate_limit_storage_timeout_ms)

    @property
    def database_timeout(self) -> timedelta:
        return timedelta(seconds=self.database_timeout_s)

    @property
    def shutdown_grace(self) -> timedelta:
        return timedelta(seconds=self.shutdown_grace_s)

    @property
    def approval_ttl(self) -> timedelta:
        return timedelta(seconds=self.approval_ttl_s)

    @property
    def secrets(self) -> list[str]:
        """Every secret value of this configuration, for the redactor."""
        values = [self.session_secret, self.model_api_key, self.oidc_client_secret]
        found = [value.get_secret_value() for value in (*values, *self.tool_secrets.values()) if value is not None]
        urls = {self.database_url, self.session_database_url, self.owner_database_url, self.rate_limit_storage_url}
        passwords = [urlsplit(url).password for url in urls]
        return [*found, *(unquote(password) for password in passwords if password)]

    @cached_property
    def service(self) -> ServiceIdentity:
        return ServiceIdentity.read(ROOT / "pyproject.toml")

    @model_validator(mode="after")
    def _refuse_unsafe(self) -> Self:
        if "public_url" not in self.model_fields_set:
            self.public_url = f"http://127.0.0.1:{self.port}"
        problems = [*self._contradictions(), *self._production_gaps()]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _contradictions(self) -> list[str]:
        problems = []
        if not self.database_url.startswith(("sqlite:///", "postgresql://")):
            problems.append("DATABASE_URL: must start with sqlite:/// or postgresql://")
        if not self.owner_database_url.startswith(self.database_url.partition(":")[0]):
            problems.append("MIGRATION_DATABASE_URL: must be the database of DATABASE_URL, as its owner")
        if self.is_sqlite and self.direct_database_url is not None:
            problems.append("DIRECT_DATABASE_URL: only with PostgreSQL; SQLite has no pooler")
        elif not self.session_database_url.startswith(self.database_url.partition(":")[0]):
            problems.append("DIRECT_DATABASE_URL: must start with postgresql://")
        if self.model_provider not in {"offline", "bedrock"} and self.model_api_key is None:
            problems.append(f"MODEL_API_KEY: needed because MODEL_PROVIDER is {self.model_provider}")
        if self.model_total_timeout_ms < self.model_timeout_ms:
            problems.append("MODEL_TOTAL_TIMEOUT_MS: at least MODEL_TIMEOUT_MS")
        if not self.require_distinct_key_holders and self.oidc_issuer:
            problems.append("REQUIRE_DISTINCT_KEY_HOLDERS: off only without OIDC_ISSUER, where people sign in")
        return [*problems, *self._oidc_gaps(), *self._unsafe_edge()]

    def _unsafe_edge(self) -> list[str]:
        """What is wrong with how requests reach the service."""
        problems = []
        if "*" in self.cors_origins:
            problems.append("CORS_ORIGINS: name each origin; * would let any page read the API")
        if any(network.prefixlen == 0 for network in self.trusted_proxies):
            problems.append("TRUSTED_PROXIES: name your proxies; with /0 every caller could choose its address")
        if self.rate_limit_storage_url and not self.rate_limit_storage_url.startswith(LIMIT_STORAGES):
            problems.append(f"RATE_LIMIT_STORAGE_URL: must start with one of {', '.join(LIMIT_STORAGES)}")
        if self.request_bytes_in_flight < self.request_max_bytes:
            problems.append("REQUEST_BYTES_IN_FLIGHT: at least REQUEST_MAX_BYTES, or nobody can send that much")
        if self.operations_port and self.operations_port == self.port:
            problems.append("OPERATIONS_PORT: must differ from PORT")
        return problems

    def _oidc_gaps(self) -> list[str]:
        api = {
            "OIDC_ISSUER": self.oidc_issuer, "OIDC_AUDIENCE": self.oidc_audience, "OIDC_JWKS_URL": self.oidc_jwks_url,
        }  # fmt: skip
        console = {
            "OIDC_CLIENT_ID": self.oidc_client_id, "OIDC_AUTHORIZATION_URL": self.oidc_authorization_url,
            "OIDC_TOKEN_URL": self.oidc_token_url,
        }  # fmt: skip
        return oidc_gaps(
            api, console, algorithms=self.oidc_algorithms, token_type=self.oidc_token_type,
            only_https=self.environment in {"staging", "production"},
        )  # fmt: skip

    def _production_gaps(self) -> list[str]:
        if self.environment in {"development", "test"}:
            return []
        problems = []
        secret = self.session_secret.get_secret_value()
        if secret == DEVELOPMENT_SECRET or len(secret) < 32 or len(set(secret)) < 8:  # hexadecimal ones have more
            problems.append("SESSION_SECRET: set a random value of at least 32 characters")
        if self.is_sqlite:
            problems.append("DATABASE_URL: SQLite is for development; use postgresql://")
        if self.model_provider == "offline":
            problems.append("MODEL_PROVIDER: the offline model is for development; name a real provider")
        if not self.public_url.startswith("https://"):
            problems.append("PUBLIC_URL: must be an https:// address")
        if self.log_level == "debug":
            problems.append("LOG_LEVEL: debug may log request data; use info or above")
        return problems


def load_settings(**overrides: object) -> Settings:
    """Read the environment. Raises SettingsInvalid naming every key that cannot be used."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except UnicodeError:
        raise SettingsInvalid(f"{Settings.model_config['env_file']} must be UTF-8 text: save it as such") from None
    except ValidationError as error:
        lines: list[str] = []
        for issue in error.errors(include_input=False, include_url=False):
            key = "_".join(str(part) for part in issue["loc"]).upper()
            text = issue["msg"].removeprefix("Value error, ")
            lines.extend(f"{key}: {text}" if key else line for line in text.splitlines())
        raise SettingsInvalid("The configuration cannot be used:\n  " + "\n  ".join(lines)) from None
