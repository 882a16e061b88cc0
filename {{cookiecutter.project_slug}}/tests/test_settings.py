import pytest

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
