"""The migrations make exactly the tables the models describe, and can be undone."""

import pytest
from alembic import command

from app.db.engine import sync_engine
from app.entrypoints import schema
from gates.rig.databases import owner_of, settings_on


def test_models_and_migrations_agree(database_url: str) -> None:
    settings = settings_on(database_url)
    schema.require_current(settings)
    command.check(schema.alembic_config(settings))


def test_down_and_up_again(database_url: str) -> None:
    settings = settings_on(database_url)
    config = schema.alembic_config(settings)
    command.downgrade(config, "base")
    with pytest.raises(schema.SchemaBehind):
        schema.require_current(settings)
    engine = sync_engine(owner_of(database_url))
    with engine.connect() as connection:
        left = {name for name in engine.dialect.get_table_names(connection) if name in {"runs", "tickets", "tenants"}}
    engine.dispose()
    assert left == set()
    schema.migrate(settings)
    schema.require_current(settings)
