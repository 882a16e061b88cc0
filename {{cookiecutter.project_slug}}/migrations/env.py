"""Alembic environment: the service's own database, with every model imported. Gate: deployment."""

import importlib
import pkgutil
from collections.abc import Collection, Mapping
from typing import Any, Literal

import sqlalchemy as sa
from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.util import CommandError, to_tuple

import app
from app.db import schema_revisions
from app.db.base import Base, UtcDateTime
from app.db.connections import sync_engine
from app.db.tenancy import AllTenants
from app.db.walls import SETTING
from app.entrypoints import migration_limits, revisions
from app.settings import ROOT, load_settings


def _import_models() -> None:
    for module in pkgutil.walk_packages(app.__path__, "app."):
        if module.name.endswith(".models"):
            importlib.import_module(module.name)


def _owned(_object: object, name: str | None, kind: str, *_rest: object) -> bool:
    """Leave out what is not ours to migrate: the durable engine keeps its own tables."""
    return kind != "table" or name in Base.metadata.tables


def _rendered(kind: str, item: object, _context: object) -> str | Literal[False]:
    """A migration outlives the code: it names the database's types and imports none of ours."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


def _record(
    ctx: MigrationContext,  # noqa: ARG001 - alembic names the arguments
    step: MigrationInfo,  # noqa: ARG001
    heads: Collection[Any],
    run_args: Mapping[str, Any],  # noqa: ARG001
) -> None:
    """After each step and in its transaction: which migrations the schema has now, and who can work on it."""
    try:
        readability = revisions.readability(ROOT / "migrations")
    except ValueError as error:
        raise CommandError(str(error)) from None
    version = load_settings().service.version
    known = {revision: readability.get(revision) for revision in sorted(_applied(heads))}
    schema_revisions.record(context.get_bind(), known, version)


def _applied(heads: Collection[str]) -> set[str]:
    """These migrations and all that they follow or depend on."""
    found: set[str] = set()
    due = list(heads)
    while due:
        for each in context.script.get_revisions(due.pop()):
            if each.revision not in found:
                found.add(each.revision)
                due += [*to_tuple(each.down_revision, default=()), *to_tuple(each.dependencies, default=())]
    return found


def run() -> None:
    _import_models()
    url = context.config.attributes.get("database_url") or load_settings().owner_database_url
    engine = sync_engine(url)
    try:
        with engine.connect() as connection:
            _migrate(connection)
    finally:
        engine.dispose()


def _migrate(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        migration_limits.apply(connection)
        connection.exec_driver_sql(f"SET {SETTING} = '{AllTenants.tenant_id}'")  # a migration may move any row
        connection.commit()
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_object=_owned,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
        render_item=_rendered,
        on_version_apply=_record,
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()


run()
