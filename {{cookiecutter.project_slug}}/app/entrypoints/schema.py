"""The database schema: bring it to the newest, or say that it is not."""

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from app.db.engine import sync_engine
from app.runs.engine import migrate_engine
from app.settings import ROOT, Settings


class SchemaBehind(Exception):
    """The database is older than the code."""


class MigrationFailed(Exception):
    """A migration cannot be applied; the message says which and why."""


def alembic_config(settings: Settings) -> Config:
    config = Config(str(ROOT / "alembic.ini"))
    config.attributes["database_url"] = settings.database_url
    return config


def migrate(settings: Settings) -> None:
    """Apply every migration of both roots and of the durable engine. Safe to repeat."""
    try:
        command.upgrade(alembic_config(settings), "heads")
    except CommandError as error:
        raise MigrationFailed(_explained(error)) from None
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
    try:
        applied = {revision.revision for revision in script.get_all_current(stored)}
    except CommandError as error:
        raise MigrationFailed(_explained(error)) from None
    if not applied.issuperset(script.get_heads()):
        raise SchemaBehind("The database schema is not current. Run: make migrate (or: app migrate)")


def _explained(error: CommandError) -> str:
    if "Can't locate revision" in str(error):
        return (
            f"The database was migrated by newer code than this ({error}). Check out that code, or name another "
            "DATABASE_URL."
        )
    return f"The migrations cannot be applied: {error}"
