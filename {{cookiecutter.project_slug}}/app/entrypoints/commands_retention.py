"""How long things are kept, what is due to go, and deleting it."""

from typing import Annotated

import typer

from app.entrypoints.command_context import Because, DryRun, Json, operator, with_runtime
from app.entrypoints.terminal import out, show
from app.runs.retention_sweeps import TABLES
from app.runtime import Runtime

retention = typer.Typer(no_args_is_help=True, help="How long things are kept.")
OfContent = Annotated[int | None, typer.Option(help="Days after a run has ended; without it the operator's period.")]


@retention.command("show")
def show_retention(as_json: Json = False) -> None:
    """The periods of every tenant in days, and what is due to go now."""

    async def work(runtime: Runtime) -> list[dict[str, object]]:
        names = {tenant.id: tenant.name for tenant in await runtime.members.tenants()}
        default = {"tenant": "(default)", "tenant_id": None, **runtime.retention.periods.default.model_dump()}
        by_tenant = await runtime.retention.periods.by_tenant()
        return [
            default,
            *({"tenant": names[id_], "tenant_id": id_, **periods.model_dump()} for id_, periods in by_tenant.items()),
        ]

    show(with_runtime(work), as_json=as_json, empty="")


@retention.command("tables")
def show_tables(as_json: Json = False) -> None:
    """What happens to each table's rows."""
    show([{"table": name, "retention": what} for name, what in TABLES.items()], as_json=as_json, empty="")


@retention.command("run")
def run_retention(dry_run: DryRun = False, as_json: Json = False) -> None:
    """Delete what is due now instead of at the worker's next daily round. There is no undo."""

    async def work(runtime: Runtime) -> dict[str, int]:
        return dict(await runtime.retention.due() if dry_run else await runtime.retention.run_to_the_end())

    counts = with_runtime(work)
    show([{"kind": kind, "count": count} for kind, count in counts.items()], as_json=as_json, empty="Nothing is due.")
    if counts and not as_json:
        out.print("Would delete these." if dry_run else "Deleted these.")


@retention.command("set")
def set_retention(tenant: str, reason: Because, content_days: OfContent = None, history_days: OfContent = None) -> None:
    """Shorten a tenant's periods; without a number the operator's holds again. What it shortens goes within a day."""

    async def work(runtime: Runtime) -> dict[str, int]:
        tenant_id = await runtime.directory.tenant_id(tenant)
        periods = await runtime.retention.periods.set(
            tenant_id, content_days=content_days, history_days=history_days, actor=operator(), reason=reason
        )
        return periods.model_dump()

    periods = with_runtime(work)
    out.print(f"{tenant}: history {periods['history']} days, content {periods['content']} days.", highlight=False)
