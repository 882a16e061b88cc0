import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from app import settings as settings_module
from app.config_files import SettingsInvalid
from app.db.connections import sync_engine
from app.identity.roles import Roles
from app.settings import ROOT, load_settings

PRODUCTION = {
    "environment": "production",
    "database_url": "postgresql://app@db/app",
    "session_secret": "of-these-tests-alone-0123456789-abcdef",
    "model_provider": "openai",
    "model_api_key": "sk-something",
    "public_url": "https://service.example",
}


def test_a_complete_production_environment_is_accepted() -> None:
    assert load_settings(**PRODUCTION).environment == "production"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"session_secret": "short"}, "SESSION_SECRET"),
        ({"session_secret": "s" * 40}, "SESSION_SECRET"),
        ({"session_secret": "development-only-not-a-secret"}, "SESSION_SECRET"),
        ({"database_url": "sqlite:///x.db"}, "DATABASE_URL"),
        ({"database_url": "mysql://db/app"}, "DATABASE_URL"),
        ({"model_provider": "offline"}, "MODEL_PROVIDER"),
        ({"model_api_key": None}, "MODEL_API_KEY"),
        ({"public_url": "http://service.example"}, "PUBLIC_URL"),
        ({"log_level": "debug"}, "LOG_LEVEL"),
        ({"operations_port": 8000}, "OPERATIONS_PORT"),
        ({"port": 70_000}, "PORT"),
        ({"environment": "prod"}, "ENVIRONMENT"),
    ],
)
def test_an_unsafe_production_value_is_refused_by_name(change: dict[str, object], named: str) -> None:
    with pytest.raises(SettingsInvalid, match=named):
        load_settings(**{**PRODUCTION, **change})


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("https://a.example", ("https://a.example",)),
        ("https://a.example, https://b.example,", ("https://a.example", "https://b.example")),
        ('["https://a.example"]', ("https://a.example",)),
        ("https://A.example:443/", ("https://a.example",)),  # browsers never say it so
        ("[]", ()),
        ("", ()),
    ],
)
@pytest.mark.parametrize("key", ["EGRESS_ALLOW", "CORS_ORIGINS", "ANSWER_LINKS_ALLOW"])
def test_a_list_is_said_with_commas_or_as_json(
    monkeypatch: pytest.MonkeyPatch, key: str, given: str, read: tuple[str, ...]
) -> None:
    """fault 20"""
    monkeypatch.setenv(key, given)
    assert getattr(load_settings(), key.lower()) == read


@pytest.mark.parametrize(
    ("key", "given", "told"),
    [
        ("EGRESS_ALLOW", "[https://a.example]", "EGRESS_ALLOW: must be a JSON list"),
        ("TRUSTED_PROXIES", "10.0.0.0/8, nonsense", "TRUSTED_PROXIES"),
        ("TOOL_SECRETS", "crm=x", "TOOL_SECRETS: must be a JSON object"),
        ("TOOL_SECRETS", '{"crm": " "}', "TOOL_SECRETS: must not be blank"),
        ("MODEL_API_KEY", "  ", "MODEL_API_KEY: must not be blank"),
        ("SESSION_SECRET", "\t", "SESSION_SECRET: must not be blank"),
        ("OIDC_CLIENT_SECRET", " ", "OIDC_CLIENT_SECRET: must not be blank"),
        ("PUBLIC_URL", "https://x.example/app", "PUBLIC_URL: without a path"),
        ("PUBLIC_URL", "https://x.example?app=1", "PUBLIC_URL: without a path"),
        ("EGRESS_ALLOW", "a.example", "EGRESS_ALLOW_0: must be an http:// or https:// address"),
        ("EGRESS_ALLOW", '{"a": 1}', "EGRESS_ALLOW_0: must be an http:// or https:// address"),
        ("ANSWER_LINKS_ALLOW", "https://a.example/docs", "ANSWER_LINKS_ALLOW_0: must be an origin"),
        ("CORS_ORIGINS", "https://a.example, https://b.example:x", "CORS_ORIGINS_1: must be an http"),
        ("SENTRY_DSN", "x", "SENTRY_DSN: must be"),
        ("SENTRY_DSN", "https://sentry.example/1", "SENTRY_DSN: must be as Sentry shows it"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "not a url", "OTEL_EXPORTER_OTLP_ENDPOINT: must be an http"),
        ("MODEL_BASE_URL", "api.example.com", "MODEL_BASE_URL: must be an http"),
        ("OIDC_JWKS_URL", "keys.json", "OIDC_JWKS_URL: must be an http"),
        ("DATABASE_URL", "postgresql://h:abc/db", "DATABASE_URL: cannot be read"),
        ("MODEL_API_KEY", "\u200b", "MODEL_API_KEY: must not be blank"),
        ("MODEL_API_KEY", "sk-1\n", "MODEL_API_KEY: must be visible ASCII"),
        ("TOOL_SECRETS", '{"crm": "x y"}', "TOOL_SECRETS: must be visible ASCII"),
    ],
)
def test_a_value_that_cannot_be_read_is_named_with_what_it_must_be(
    monkeypatch: pytest.MonkeyPatch, key: str, given: str, told: str
) -> None:
    """fault 20, 21, 29"""
    monkeypatch.setenv(key, given)
    with pytest.raises(SettingsInvalid, match=told):
        load_settings()


@pytest.mark.parametrize("key", ["MODEL_API_KEY", "SESSION_SECRET", "MODEL_PROVIDER", "PUBLIC_URL"])
def test_an_empty_value_is_a_missing_one(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """fault 21: compose passes `KEY=` for what is not set."""
    for name, value in PRODUCTION.items():
        monkeypatch.setenv(name.upper(), value)
    assert load_settings().environment == "production"
    monkeypatch.setenv(key, "")
    with pytest.raises(SettingsInvalid, match=key):
        load_settings()


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    """fault 20"""
    file = tmp_path / "settings"
    for encoding, is_read in (("utf-8-sig", True), ("utf-16", False)):
        file.write_text("PORT=8123\n", encoding=encoding)
        code = "from app.config_files import SettingsInvalid\nfrom app.settings import load_settings\n"
        code += "try: print(load_settings().port)\n"
        code += "except SettingsInvalid as error: print(error)\n"
        environment = {**os.environ, "ENV_FILE": str(file)}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == ("8123" if is_read else f"{file} must be UTF-8 text: save it as such")


@pytest.mark.parametrize("name", ["a?b", "a%20b", "a b", "a:b", "a#b", "é中", "a?b%3F&mode=ro", "a'\"b", "%"])
def test_the_database_is_the_file_that_was_named_whatever_its_folder_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """fault 15"""
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.setattr(settings_module, "ROOT", folder)
    read = load_settings(database_url="sqlite:///data/app.db")
    assert read.sqlite_file == folder / "data" / "app.db"
    engine = sync_engine(read.database_url)
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE TABLE here (a INTEGER)"))
        connection.commit()
    engine.dispose()
    with sqlite3.connect(read.sqlite_file) as opened:
        assert opened.execute("SELECT name FROM sqlite_master").fetchall() == [("here",)]


def test_every_problem_is_named_at_once_and_no_value_is_shown() -> None:
    changes = {"session_secret": "tiny-secret", "public_url": "http://x", "log_level": "debug"}
    with pytest.raises(SettingsInvalid) as refused:
        load_settings(**{**PRODUCTION, **changes})
    text = str(refused.value)
    assert all(key in text for key in ("SESSION_SECRET", "PUBLIC_URL", "LOG_LEVEL"))
    assert "tiny-secret" not in text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[roles]\nking = 7\n", r"roles\.king: Input should be a valid list"),
        ("[rolls]\n", r"rolls: Extra inputs are not permitted"),
        ("[roles\n", r"at line 1"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_what_is_wrong(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "roles.toml"
    file.write_text(text)
    with pytest.raises(SettingsInvalid, match=rf"roles\.toml cannot be used:\n  .*{told}"):
        Roles.load(file)
    file.write_bytes(b"\xff")
    with pytest.raises(SettingsInvalid, match="cannot be used"):
        Roles.load(file)


def test_the_public_address_follows_the_port_where_nobody_says_it() -> None:
    """What a client of the wrong address is told leads to this service, not to whatever else listens at 8000."""
    assert load_settings(port=8100, environment="test").public_url == "http://127.0.0.1:8100"
    said = load_settings(port=8100, public_url="https://ai.example.com", environment="test")
    assert said.public_url == "https://ai.example.com"
