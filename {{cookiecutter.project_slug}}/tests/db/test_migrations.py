"""The migrations make exactly the tables the models describe, and can be undone."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from alembic import command

from app.db.connections import sync_engine
from app.db.tenancy import ALL_TENANTS
from app.db.walls import SETTING
from app.entrypoints import schema
from app.settings import ROOT, load_settings, sqlite_url
from gates.rig.databases import NewDatabase, owner_of, settings_on


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


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "empty.db")
    new: NewDatabase = request.getfixturevalue("new_postgres")
    url = new()
    with psycopg.connect(owner_of(url), autocommit=True) as connection:
        for schema_name in ("dbos", "public"):
            connection.execute(f"DROP SCHEMA IF EXISTS {schema_name} CASCADE")
        connection.execute("CREATE SCHEMA public")
    return url


def test_four_migrations_at_once_on_an_empty_database(tmp_path: Path, empty_database: str) -> None:
    """fault 28: replicas that start together each migrate, and none ends in an error."""
    environment = {**os.environ, "DATABASE_URL": empty_database, "MIGRATION_DATABASE_URL": owner_of(empty_database)}
    command = [sys.executable, "-c", "from app.entrypoints.cli import main; main()", "migrate"]
    logs = [(tmp_path / f"{n}.log").open("w+") for n in range(4)]
    started = [subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log) for log in logs]
    codes = [process.wait() for process in started]
    told = []
    for log in logs:
        log.seek(0)
        told.append(log.read())
        log.close()
    assert codes == [0, 0, 0, 0], told
    schema.require_current(settings_on(empty_database))


def test_a_place_without_migrations_is_not_called_current(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_sqlite: NewDatabase
) -> None:
    """fault 14: a check that finds nothing to check is red."""
    (tmp_path / "migrations").mkdir()
    text = (ROOT / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(text)
    for name in ("env.py", "script.py.mako"):
        (tmp_path / "migrations" / name).write_text((ROOT / "migrations" / name).read_text())
    monkeypatch.setattr(schema, "ROOT", tmp_path)
    with pytest.raises(schema.MigrationFailed, match="No migration was found"):
        schema.require_current(load_settings(database_url=new_sqlite(), environment="test"))
