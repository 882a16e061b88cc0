"""The migrations make exactly the tables the models describe, and can be undone."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from alembic import command

from app.db.engine import sync_engine
from app.entrypoints import schema
from app.settings import ROOT, load_settings, sqlite_url
from gates.rig.databases import NewDatabase, owner_of, settings_on


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
