from pathlib import Path

import pytest

from app.identity.roles import Roles
from app.settings import SettingsInvalid, load_settings

PRODUCTION = {
    "environment": "production",
    "database_url": "postgresql://app@db/app",
    "session_secret": "s" * 40,
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
