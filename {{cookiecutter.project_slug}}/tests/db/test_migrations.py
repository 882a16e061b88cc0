"""The migrations make exactly the tables the models describe, and can be undone."""

import pytest
from alembic import command

from app.db.engine import sync_engine
from app.entrypoints import schema
from app.settings import load_settings


def test_models_and_migrations_agree(database_url: str) -> None:
    settings = load_settings(database_url=database_url, environment="test")
    schema.require_current(settings)
    command.check(schema.alembic_config(settings))


def test_down_and_up_again(database_url: str) -> None:
    settings = load_settings(database_url=database_url, environment="test")
    config = schema.alembic_config(settings)
    command.downgrade(config, "base")
    with pytest.raises(schema.SchemaBehind):
        schema.require_current(settings)
    engine = sync_engine(database_url)
    with engine.connect() as connection:
        left = {name for name in engine.dialect.get_table_names(connection) if name in {"runs", "tickets", "tenants"}}
    engine.dispose()
    assert left == set()
    schema.migrate(settings)
    schema.require_current(settings)
