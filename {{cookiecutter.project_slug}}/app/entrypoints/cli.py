"""`app`: the command line of the service. Every failure is one message and a non-zero exit."""

import gc
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_command

from app.entrypoints.terminal import ArgumentUnreadable, accept_any_terminal, err, out, readable

if TYPE_CHECKING:
    from app.settings import Settings


class Deferred(NamedTuple):
    """A command or group whose module is imported once it is asked for, and what `app --help` says of it."""

    module: str
    attribute: str
    help: str


COMMANDS = {
    "usage": Deferred(
        "commands_money",
        "usage",
        "What was spent, of all tenants, by day, tenant, member, feature, tier, model or prompt version.",
    ),
    "reconcile": Deferred(
        "commands_money",
        "reconcile",
        "Compare a provider's invoice with what was booked; exit 1 where they differ by more than 2 %.",
    ),
    "version": Deferred(
        "commands_release",
        "version",
        "Commit, image, and hashes of policy, prompts, models, prices and schema, as /version tells them.",
    ),
    "bom": Deferred(
        "commands_release",
        "bill",
        "The AI bill of materials: models with their retirement dates, prompts, tools, policies.",
    ),
}
GROUPS = {
    "tenants": Deferred("commands_identity", "tenants", "Customers of this service."),
    "members": Deferred("commands_identity", "members", "People and machines of a tenant."),
    "keys": Deferred("commands_identity", "keys", "API keys."),
    "budget": Deferred("commands_money", "budget", "Caps on spend."),
    "runs": Deferred("commands_operations", "runs", "Runs of agents."),
    "approvals": Deferred("commands_operations", "approvals", "Questions waiting for a person."),
    "switch": Deferred("commands_operations", "switch", "Kill switches."),
    "audit": Deferred("commands_operations", "audit", "The audit trail."),
    "retention": Deferred("commands_retention", "retention", "How long things are kept."),
    "tools": Deferred("commands_tools", "tools", "Tools of other people's servers (config/tools.toml)."),
    "evals": Deferred("commands_evals", "evals", "Evaluation sets of the features."),
    "database": Deferred("commands_database", "database", "The database itself."),
    "rollout": Deferred("commands_rollout", "rollout", "Rollouts of a new version."),
}


@contextmanager
def importing() -> Iterator[None]:
    """Import without garbage collections: modules stay, and traversing them repeatedly is a tenth of a start."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class DeferredGroup(TyperGroup):
    """Lists placeholders and replaces one by the real command when it is called: `app --help` imports no service."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        deferred = {**COMMANDS, **GROUPS}.get(args[0])
        if deferred is not None:
            self.commands[args[0]] = load(args[0], deferred)
        return super().resolve_command(ctx, args)


def load(name: str, deferred: Deferred) -> Any:
    """The real command or group of that name."""
    with importing():
        real = getattr(import_module(f"app.entrypoints.{deferred.module}"), deferred.attribute)
    holder = typer.Typer(add_completion=False)
    holder.callback()(lambda: None)  # without it, a holder of one command becomes that command
    if isinstance(real, typer.Typer):
        holder.add_typer(real, name=name)
    else:
        holder.command(name)(real)
    group: Any = get_command(holder)
    return group.commands[name]


app = typer.Typer(
    cls=DeferredGroup, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, help=__doc__
)
for _name, _deferred in COMMANDS.items():
    app.command(_name, help=_deferred.help)(lambda: None)
for _name, _deferred in GROUPS.items():
    app.add_typer(typer.Typer(), name=_name, help=_deferred.help)


def _expected() -> tuple[type[Exception], ...]:
    """Failures that are explained by their message alone."""
    from app.config_files import SettingsInvalid  # noqa: PLC0415
    from app.db.connections import StorageUnavailable  # noqa: PLC0415 - only a command that failed needs these
    from app.db.database_environment import WrongEnvironment  # noqa: PLC0415
    from app.db.schema_revisions import SchemaNewer  # noqa: PLC0415
    from app.db.sessions import SessionsShared  # noqa: PLC0415
    from app.db.sqlite_version import SqliteTooOld  # noqa: PLC0415
    from app.db.walls import RoleNotMade, RoleTooStrong  # noqa: PLC0415
    from app.entrypoints import listening, migration_limits, schema  # noqa: PLC0415
    from app.entrypoints.sqlite_backup import BackupRefused  # noqa: PLC0415
    from app.errors import AppError  # noqa: PLC0415
    from app.gateway.providers import ProviderNotInstalled  # noqa: PLC0415
    from app.gateway.retirement import ModelRetired  # noqa: PLC0415
    from app.tools.pinned import ToolServersInvalid  # noqa: PLC0415

    return (
        SettingsInvalid,
        StorageUnavailable,
        WrongEnvironment,
        SessionsShared,
        SqliteTooOld,
        ArgumentUnreadable,
        RoleNotMade,
        RoleTooStrong,
        ProviderNotInstalled,
        ModelRetired,
        schema.SchemaBehind,
        schema.MigrationFailed,
        SchemaNewer,
        migration_limits.MigrationGaveUp,
        listening.CannotListen,
        BackupRefused,
        ToolServersInvalid,
        AppError,
    )


@app.callback()
def _prepare_process() -> None:
    from app.entrypoints.proxies import exempt_loopback  # noqa: PLC0415 - help reaches nothing
    from app.telemetry.logs import configure_logs  # noqa: PLC0415 - help writes no log

    exempt_loopback()
    configure_logs("warning", "text" if sys.stderr.isatty() else "json")  # until the settings are read


@app.command()
def serve() -> None:
    """Serve the API, the console and the operations port; with EMBEDDED_WORKER also work on runs."""
    with importing():
        from app.entrypoints import serving  # noqa: PLC0415 - imports the whole service
    serving.serve(_ready_settings())


@app.command()
def worker() -> None:
    """Work on queued runs, without HTTP. Start as many as you like."""
    with importing():
        from app.entrypoints import serving  # noqa: PLC0415 - imports the whole service
    serving.work(_ready_settings())


def _ready_settings() -> "Settings":
    """The settings of a process that serves or works, checked and with telemetry switched on."""
    from app.entrypoints.doctor import announce_retirements  # noqa: PLC0415 - as below
    from app.settings import load_settings  # noqa: PLC0415 - help reads no settings
    from app.telemetry.setup import configure_telemetry  # noqa: PLC0415

    settings = load_settings()
    _require_ready(settings)
    configure_telemetry(settings)
    announce_retirements(settings)
    return settings


def _require_ready(settings: "Settings") -> list[str]:
    """Whether this process can do its work, before it says that it does; returns what no role grants."""
    with importing():
        from app.entrypoints import commands_operations, schema  # noqa: PLC0415 - imports the whole service
    schema.require_current(settings)
    schema.require_environment(settings)
    schema.require_sessions(settings)
    if settings.environment in {"staging", "production"}:
        schema.require_no_powers(settings)
    return commands_operations.check_parts()


@app.command()
def migrate() -> None:
    """Bring the database schema to this code's version. Safe to repeat."""
    with importing():
        from app.entrypoints import schema  # noqa: PLC0415 - imports the migrations and every model
        from app.settings import load_settings  # noqa: PLC0415
    if schema.migrate(load_settings()):
        out.print("The database schema is current.")
    else:
        out.print("Newer code has migrated the database, and this code can work on it: nothing was changed.")


@app.command()
def doctor() -> None:
    """Check settings, database, schema, model prices and rate limits without serving."""
    from app.entrypoints.doctor import rate_limit_warnings, retired_models  # noqa: PLC0415 - help checks nothing
    from app.settings import load_settings  # noqa: PLC0415 - help reads no settings

    settings = load_settings()
    for permission in _require_ready(settings):
        err.print(f"No role grants {permission}: its tools are offered to nobody (config/roles.toml).", style="yellow")
    for warning in [*rate_limit_warnings(settings), *retired_models(settings)]:
        err.print(warning, style="yellow")
    out.print(f"Ready: {settings.environment}, {settings.model_provider} model, schema current.", style="green")


def main() -> None:
    accept_any_terminal()
    try:
        app(readable(sys.argv[1:]))
    except Exception as error:
        from sqlalchemy.exc import OperationalError  # noqa: PLC0415 - only a command that failed needs it

        if isinstance(error, _expected()):
            err.print(str(error), style="red", markup=False, highlight=False)
        elif isinstance(error, OperationalError):
            reason = str(error.orig).strip().splitlines()[0]
            said = f"DATABASE_URL: the database does not answer ({reason})"
            err.print(said, style="red", markup=False, highlight=False)
            logging.getLogger(__name__).debug("database", exc_info=error)
        else:
            raise
        sys.exit(2)
