"""The database schema: bring it to the newest, or say that it is not."""

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from app.db.engine import sync_engine
from app.runs.engine import migrate_engine
from app.settings import ROOT, Settings


class SchemaBehind(Exception):
    """The database is older than the code."""


def alembic_config(settings: Settings) -> Config:
    config = Config(str(ROOT / "alembic.ini"))
    config.attributes["database_url"] = settings.database_url
    return config


def migrate(settings: Settings) -> None:
    """Apply every migration of both roots and of the durable engine. Safe to repeat."""
    command.upgrade(alembic_config(settings), "heads")
    migrate_engine(settings)


def require_current(settings: Settings) -> None:
    """Raise SchemaBehind unless every migration is applied."""
    script = ScriptDirectory.from_config(alembic_config(settings))
    engine = sync_engine(settings.database_url)
    try:
        with engine.connect() as connection:
            stored = MigrationContext.configure(connection).get_current_heads()
    finally:
        engine.dispose()
    applied = {revision.revision for revision in script.get_all_current(stored)}
    if not applied.issuperset(script.get_heads()):
        raise SchemaBehind("The database schema is not current. Run: uv run app migrate (or: make migrate)")
