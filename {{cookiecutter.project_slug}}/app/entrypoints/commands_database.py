"""The database itself: whose it is, whether it is whole, a copy of it. Gate: deployment."""

from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer

from app.audit import trail
from app.db import database_environment
from app.db.base import utc_now
from app.db.connections import sync_engine
from app.db.database_environment import DatabaseIdentity, WrongEnvironment
from app.db.tenancy import ALL_TENANTS
from app.db.walls import SETTING
from app.entrypoints.command_context import DryRun, Json, operator, with_runtime
from app.entrypoints.consistency import findings
from app.entrypoints.sqlite_backup import BackupRefused, back_up
from app.entrypoints.terminal import err, out, show
from app.identity.models import ApiKey, KeyClaim
from app.settings import Settings, load_settings
from app.switches.models import Switch

database = typer.Typer(no_args_is_help=True, help="The database itself.")
HALT = "runs"  # the switch that an adopted database has on: a copy holds the original's unfinished runs


@database.command("show")
def show_database(as_json: Json = False) -> None:
    """Which environment the database belongs to."""
    engine = sync_engine(load_settings().database_url)
    try:
        with engine.connect() as connection:
            identity = _recorded(connection)
    finally:
        engine.dispose()
    row = {"id": identity.id, "environment": identity.environment, "recorded": identity.recorded_at}
    show([row], as_json=as_json, empty="")


@database.command("adopt")
def adopt(
    reason: Annotated[str, typer.Option("--reason", help="Why; it goes into the audit trail.")], dry_run: DryRun = False
) -> None:
    """Give a restored or cloned database to this ENVIRONMENT, by the owner's URL. Never needed in day-to-day work.

    Afterwards the switch `runs` is on, because the copy holds unfinished runs of the original, and none of the
    original's API keys is valid in it."""
    settings = load_settings()
    engine = sync_engine(settings.owner_database_url)
    try:
        with engine.begin() as connection:
            before = _recorded(connection)
            if before.environment == settings.environment:
                out.print(f"Nothing to adopt: the database belongs to {settings.environment} already.")
                return
            if not dry_run:
                _adopt(connection, settings, before, reason)
    finally:
        engine.dispose()
    done = "Would give" if dry_run else "Gave"
    out.print(
        f"{done} the database from {before.environment} to {settings.environment}. Its API keys are revoked, and the "
        f"switch {HALT} is on. Let runs work again: app switch off {HALT} --reason …"
    )


@database.command("check")
def check(as_json: Json = False) -> None:
    """Verify audit chains, the ledger against calls, and that rows have their runs; exit 1 where one does not hold."""
    found = with_runtime(findings)
    rows = [{"check": each.check, "looked_at": each.looked_at, "broken": each.broken} for each in found]
    show(rows, as_json=as_json, empty="")
    if any(each.broken for each in found):
        err.print("The database does not hold together: keep it, and its backups, as they are.", style="red")
        raise typer.Exit(1)


@database.command("backup")
def backup(file: Path) -> None:
    """Copy an SQLite database to a new file while the service works. PostgreSQL: docs/backup.md."""
    settings = load_settings()
    if not settings.is_sqlite:
        raise BackupRefused("PostgreSQL is backed up by its own tools, pg_basebackup and a WAL archive: docs/backup.md")
    size = back_up(settings.sqlite_file, file)
    out.print(f"Copied the database to {file} ({size} bytes).", highlight=False)


def _recorded(connection: sa.Connection) -> DatabaseIdentity:
    identity = database_environment.read_identity(connection)
    if identity is None:
        raise WrongEnvironment("The database does not say which environment it belongs to. Run: app migrate")
    return identity


def _adopt(connection: sa.Connection, settings: Settings, before: DatabaseIdentity, reason: str) -> None:
    """Everything in one transaction: an adopted database never works on runs by itself, nor lacks the audit record."""
    if not settings.is_sqlite:
        connection.exec_driver_sql(f"SET LOCAL {SETTING} = '{ALL_TENANTS.tenant_id}'")
    after = database_environment.replace(connection, settings.environment)
    actor = operator()
    if connection.scalar(sa.select(Switch.name).where(Switch.name == HALT)) is None:
        row = {"name": HALT, "reason": reason, "thrown_by": actor, "thrown_at": utc_now()}
        connection.execute(sa.insert(Switch), row)
        trail.append_at_once(connection, trail.PLATFORM, actor, "switch.on", f"switch:{HALT}", reason=reason)
    facts = {
        "from": before.environment, "from_id": before.id, "to": after.environment, "reason": reason,
        "keys_revoked": _revoke_keys(connection),
    }  # fmt: skip
    trail.append_at_once(connection, trail.PLATFORM, actor, "database.adopted", f"database:{after.id}", **facts)


def _revoke_keys(connection: sa.Connection) -> int:
    """A key of the original opens nothing in the copy. Returns how many there were."""
    now = utc_now()
    connection.execute(sa.update(KeyClaim).where(KeyClaim.redeemed_at.is_(None)).values(expires_at=now))
    revoked = connection.execute(sa.update(ApiKey).where(ApiKey.revoked_at.is_(None)).values(revoked_at=now))
    return revoked.rowcount
