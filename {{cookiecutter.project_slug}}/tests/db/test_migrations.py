"""The migrations make exactly the tables the models describe, and can be undone."""

import pytest
from alembic import command

from app.db.engine import sync_engine
from app.db.tenancy import ALL_TENANTS
from app.db.walls import SETTING
from app.entrypoints import schema
from gates.rig.databases import owner_of, settings_on


def test_models_and_migrations_agree(database_url: str) -> None:
    settings = settings_on(database_url)
    schema.require_current(settings)
    command.check(schema.alembic_config(settings))


def test_limits_from_before_they_had_two_layers_are_the_operators(database_url: str) -> None:
    settings = settings_on(database_url)
    config = schema.alembic_config(settings)
    command.downgrade(config, "t0010")
    command.downgrade(config, "t0008")
    _say(
        database_url,
        "INSERT INTO budget_caps (scope, scope_id, period, limit_micro, frozen) VALUES"
        " ('tenant', 'a', '', 5, true), ('run', 'r', '', 7, false)",
        "INSERT INTO members (id, tenant_id, name, roles, disabled_at, created_at)"
        " VALUES ('m', 'a', 'Ada', '[]', '2026-01-01 00:00:00', '2026-01-01 00:00:00')",
    )
    schema.migrate(settings)
    layers = "SELECT scope, limit_micro, frozen, tenant_limit_micro, tenant_frozen FROM budget_caps ORDER BY scope"
    assert _say(database_url, layers) == [("run", None, False, 7, False), ("tenant", 5, True, None, False)]
    shut_out = "SELECT operator_disabled_at IS NOT NULL, disabled_at IS NOT NULL FROM members WHERE id = 'm'"
    assert _say(database_url, shut_out) == [(True, False)]
    # Back again, the stricter of both layers goes on to hold.
    _say(database_url, "UPDATE budget_caps SET tenant_limit_micro = 3, frozen = false, tenant_frozen = true")
    command.downgrade(config, "t0010")
    command.downgrade(config, "t0008")
    stricter = "SELECT scope, limit_micro, frozen FROM budget_caps ORDER BY scope"
    assert _say(database_url, stricter) == [("run", 3, True), ("tenant", 3, True)]
    assert _say(database_url, "SELECT disabled_at IS NOT NULL FROM members WHERE id = 'm'") == [(True,)]
    schema.migrate(settings)


def _say(database_url: str, *statements: str) -> list[tuple[object, ...]]:
    """Carry these out as the owner of the tables, whoever's the rows are; the rows of the last."""
    engine, rows = sync_engine(owner_of(database_url)), []
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SET LOCAL {SETTING} = '{ALL_TENANTS.tenant_id}'")
        for statement in statements:
            done = connection.exec_driver_sql(statement)
            rows = [tuple(row) for row in done] if done.returns_rows else []
    engine.dispose()
    return rows


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
