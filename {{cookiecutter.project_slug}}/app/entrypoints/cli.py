"""`app`: the command line of the service. Every failure is one message and a non-zero exit."""

import logging
import sys

import typer
from sqlalchemy.exc import OperationalError

from app.db.engine import StorageUnavailable
from app.db.walls import RoleNotMade, RoleTooStrong
from app.entrypoints import (
    commands_evals,
    commands_identity,
    commands_money,
    commands_operations,
    commands_retention,
    commands_tools,
    schema,
    serving,
)
from app.entrypoints.terminal import err, out
from app.errors import AppError
from app.gateway.providers import ProviderNotInstalled
from app.settings import Settings, SettingsInvalid, load_settings
from app.telemetry.logs import configure_logs
from app.telemetry.setup import configure_telemetry
from app.tools.pinned import ToolServersInvalid

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, help=__doc__)
app.add_typer(commands_identity.tenants, name="tenants")
app.add_typer(commands_identity.members, name="members")
app.add_typer(commands_identity.keys, name="keys")
app.add_typer(commands_money.budget, name="budget")
app.command("usage")(commands_money.usage)
app.command("reconcile")(commands_money.reconcile)
app.add_typer(commands_operations.runs, name="runs")
app.add_typer(commands_operations.approvals, name="approvals")
app.add_typer(commands_operations.switch, name="switch")
app.add_typer(commands_operations.audit, name="audit")
app.add_typer(commands_retention.retention, name="retention")
app.add_typer(commands_tools.tools, name="tools")
app.add_typer(commands_evals.evals, name="evals")

EXPECTED = (
    SettingsInvalid,
    StorageUnavailable,
    RoleNotMade,
    RoleTooStrong,
    ProviderNotInstalled,
    schema.SchemaBehind,
    schema.MigrationFailed,
    serving.PortTaken,
    ToolServersInvalid,
    AppError,
)


@app.callback()
def _quiet_logs() -> None:
    configure_logs("warning")


@app.command()
def serve() -> None:
    """Serve the API, the console and the operations port; with EMBEDDED_WORKER also work on runs."""
    settings = load_settings()
    _require_ready(settings)
    configure_telemetry(settings)
    serving.serve(settings)


@app.command()
def worker() -> None:
    """Work on queued runs, without HTTP. Start as many as you like."""
    settings = load_settings()
    _require_ready(settings)
    configure_telemetry(settings)
    serving.work(settings)


def _require_ready(settings: Settings) -> list[str]:
    """Whether this process can do its work, before it says that it does; returns what no role grants."""
    schema.require_current(settings)
    if settings.environment in {"staging", "production"}:
        schema.require_no_powers(settings)
    return commands_operations.check_parts()


@app.command()
def migrate() -> None:
    """Bring the database schema to this code's version. Safe to repeat."""
    settings = load_settings()
    schema.migrate(settings)
    out.print("The database schema is current.")


@app.command()
def doctor() -> None:
    """Check settings, database, schema and model prices without serving."""
    settings = load_settings()
    for permission in _require_ready(settings):
        err.print(f"No role grants {permission}: its tools are offered to nobody (config/roles.toml).", style="yellow")
    out.print(f"Ready: {settings.environment}, {settings.model_provider} model, schema current.", style="green")


def main() -> None:
    try:
        app()
    except EXPECTED as error:
        err.print(str(error), style="red", markup=False, highlight=False)
        sys.exit(2)
    except OperationalError as error:
        reason = str(error.orig).strip().splitlines()[0]
        err.print(f"DATABASE_URL: the database does not answer ({reason})", style="red", markup=False, highlight=False)
        logging.getLogger(__name__).debug("database", exc_info=error)
        sys.exit(2)
