"""Gate 8, deployment: schema N serves code N-1, and a migration that is in somebody's way gives up whole.

The released code is stood in for by its contract: what its models know of each table, written at the release.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.util import CommandError

from app.db.connections import sync_engine
from app.db.tenancy import ALL_TENANTS
from app.db.walls import APPEND_ONLY, READ_ONLY, SETTING
from app.entrypoints import migration_limits, schema
from gates import schema_contract
from gates.proof import Proof, control
from gates.rig.databases import NewDatabase, owner_of, settings_on
from gates.rig.service import running

GIVES_UP_WITHIN_S = 120  # many times the limit of a wait for a lock
NEW = "zz"  # of no row of a new database, and short enough for every column
VALUES: Mapping[str, Any] = {
    "VARCHAR": NEW, "TEXT": NEW, "JSON": {}, "BIGINT": 1, "INTEGER": 1, "BOOLEAN": False, "DOUBLE PRECISION": 1.0,
    "TIMESTAMP WITH TIME ZONE": datetime(2026, 1, 1, tzinfo=UTC),
}  # fmt: skip


def _as_released(name: str, columns: Mapping[str, Any]) -> sa.Table:
    """The table as the released code sees it: no column that came later."""
    types: dict[str, sa.types.TypeEngine[Any]] = {
        "JSON": sa.JSON(),
        "TIMESTAMP WITH TIME ZONE": sa.DateTime(timezone=True),
    }
    made = [sa.Column(column, types.get(about["type"], sa.types.NullType())) for column, about in columns.items()]
    return sa.Table(name, sa.MetaData(), *made)


def _works(connection: sa.Connection, name: str, columns: Mapping[str, Any]) -> str:
    """What the database says to the released code's statements; empty where it takes them all."""
    table = _as_released(name, columns)
    values = {column: VALUES[about["type"].partition("(")[0]] for column, about in columns.items()}
    attempt = connection.begin_nested()
    try:
        if name not in READ_ONLY:
            connection.execute(sa.insert(table), values)
        rows = connection.execute(sa.select(table)).all()
        if name not in READ_ONLY | APPEND_ONLY:
            key = next(column for column, value in values.items() if value == NEW)
            connection.execute(sa.update(table).where(table.c[key] == NEW).values(values))
            connection.execute(sa.delete(table).where(table.c[key] == NEW))
    except sa.exc.DBAPIError as error:
        return str(error.orig).partition("\n")[0]
    finally:
        attempt.rollback()
    return "" if rows else "what was written is not read"


@pytest.mark.timeout(600)
@control("DEP-03", cases=55)
def test_the_schema_serves_the_released_code(proof: Proof, new_postgres: NewDatabase, tmp_path: Path) -> None:
    url = new_postgres()
    contract, settings = schema_contract.load(), settings_on(url)
    engine, owner = sync_engine(url), sync_engine(owner_of(url))
    with proof.positive("the contract has every table of the models, and the present code starts on this schema"):
        with running(url, tmp_path) as service:
            assert service.call(None, "GET", "/readyz").status_code == 200
        assert len(contract) > 10
    with owner.connect() as connection:
        broken = schema_contract.broken(contract, connection)
    for name in contract:
        mine = [each for each in broken if each.partition(":")[0].partition(".")[0] == name]
        proof.same("released-shape", mine, [], name)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"SET {SETTING} = '{ALL_TENANTS.tenant_id}'")
        for name, table in contract.items():
            said = _works(connection, name, table["columns"])
            proof.same("released-statements", said, "", f"{name}:")
    try:
        command.check(schema.alembic_config(settings))
        agree = ""
    except CommandError as error:
        agree = str(error)
    proof.same("models-agree", agree, "")
    # The check itself sees each kind of step that the released code would not survive.
    for what, statement in BREAKING.items():
        with owner.connect() as connection:
            connection.exec_driver_sql(statement)
            proof.holds("sees-it", schema_contract.broken(contract, connection), what)
            connection.rollback()
    for what, statement in HARMLESS.items():
        with owner.connect() as connection:
            connection.exec_driver_sql(statement)
            proof.same("expands", schema_contract.broken(contract, connection), [], what)
            connection.rollback()
    engine.dispose()
    owner.dispose()


BREAKING = {
    "rename in one step": "ALTER TABLE members RENAME COLUMN name TO label",
    "drop a column": "ALTER TABLE members DROP COLUMN disabled_at",
    "drop a table": "DROP TABLE switches",
    "rename a table": "ALTER TABLE switches RENAME TO kill_switches",
    "another type": "ALTER TABLE model_calls ALTER COLUMN cost_micro TYPE integer",
    "a shorter text": "ALTER TABLE members ALTER COLUMN name TYPE varchar(3)",
    "NOT NULL in one step": "ALTER TABLE members ALTER COLUMN disabled_at SET NOT NULL",
    "NULL where none was": "ALTER TABLE members ALTER COLUMN name DROP NOT NULL",
    "a new column without a default": "ALTER TABLE members ADD COLUMN rank integer NOT NULL",
    "a new unique key": "ALTER TABLE runs ADD UNIQUE (feature, state)",
    "a new check": "ALTER TABLE runs ADD CONSTRAINT few CHECK (id <> 'x')",
}
HARMLESS = {
    "a new table": "CREATE TABLE new_things (id integer PRIMARY KEY)",
    "a new column that may be NULL": "ALTER TABLE members ADD COLUMN rank integer",
    "a new column with a default": "ALTER TABLE members ADD COLUMN rank integer NOT NULL DEFAULT 0",
    "a longer text": "ALTER TABLE members ALTER COLUMN name TYPE varchar(2000)",
    "an index": "CREATE INDEX ix_runs_of_the_proof ON runs (feature, state)",
}


@pytest.mark.timeout(600)
@control("DEP-03", cases=7)
def test_a_migration_that_is_in_the_way_gives_up_whole(
    proof: Proof, new_postgres: NewDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_postgres()
    settings = settings_on(url)
    command.downgrade(schema.alembic_config(settings), "t0012")
    with proof.positive("nobody is in the way: the migration is applied, and the service serves on it"):
        schema.migrate(settings)
        with running(url, tmp_path) as service:
            assert service.call(None, "GET", "/readyz").status_code == 200
    command.downgrade(schema.alembic_config(settings), "t0010")  # t0011 can be applied, and t0012 is blocked
    # A long transaction of the service's; where the migration waits for it, it ends.
    with ThreadPoolExecutor(1) as beside, psycopg.connect(url) as reader:
        pid = reader.info.backend_pid
        reader.execute("SELECT count(*) FROM model_calls")
        try:
            beside.submit(schema.migrate, settings).result(GIVES_UP_WITHIN_S)
            said = "it was applied"
        except TimeoutError:
            said = "it waits"
        except migration_limits.MigrationGaveUp as error:
            said = str(error)
        finally:
            reader.rollback()
        proof.holds("gives-up", "no lock within" in said, said)
        proof.holds("names-the-holder", f"process {pid} of role {reader.info.user}" in said, said)
        proof.holds("names-the-holder", "model_calls" in said, said)
    with psycopg.connect(owner_of(url)) as owner:
        stored = owner.execute("SELECT version_num FROM alembic_version WHERE version_num LIKE 't%'").fetchall()
        proof.same("nothing-half-done", stored, [("t0010",)])
        made = owner.execute("SELECT to_regclass('tenant_retention') IS NULL").fetchone()
        proof.same("nothing-half-done", made, (True,), "the step before the blocked one is undone:")
    schema.migrate(settings)
    schema.require_current(settings)
    monkeypatch.setattr(migration_limits, "STATEMENT_TIMEOUT", migration_limits.LOCK_TIMEOUT / 10)
    engine = sync_engine(owner_of(url))
    with engine.connect() as connection:
        migration_limits.apply(connection)
        try:
            with migration_limits.explained(owner_of(url)):
                connection.exec_driver_sql("SELECT pg_sleep(60)")
            said = "it went on"
        except migration_limits.MigrationGaveUp as error:
            said = str(error)
    proof.holds("gives-up", "took longer than" in said, said)
    with engine.connect() as connection:
        migration_limits.apply(connection)
        shown = connection.exec_driver_sql("SHOW lock_timeout").scalar()
    engine.dispose()
    proof.same("gives-up", shown, "5s", "the limit of a wait for a lock:")
