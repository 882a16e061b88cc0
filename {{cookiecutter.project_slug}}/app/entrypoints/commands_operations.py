"""What an operator does at 3 a.m.: look at runs and spend, throw a switch, verify the trail."""

from typing import Annotated

import typer
from sqlalchemy import select

from app.audit import trail
from app.audit.models import AuditHead
from app.audit.trail import ChainReport
from app.db.tenancy import ALL_TENANTS
from app.entrypoints.command_context import Because, DryRun, Json, operator, with_runtime
from app.entrypoints.names import names_by_id
from app.entrypoints.terminal import err, out, show
from app.errors import NotFound
from app.runs.models import Run
from app.runs.question_context import UNKNOWN, QuestionContext, contexts
from app.runtime import Runtime
from app.tools.models import SHOWN_TO_APPROVER, Approval, ToolCall

runs = typer.Typer(no_args_is_help=True, help="Runs of agents.")
approvals = typer.Typer(no_args_is_help=True, help="Questions waiting for a person.")
switch = typer.Typer(no_args_is_help=True, help="Kill switches.")
audit = typer.Typer(no_args_is_help=True, help="The audit trail.")

STATES = ("queued", "running", "waiting", "succeeded", "failed", "cancelled")


@runs.command("list")
def list_runs(
    state: Annotated[str | None, typer.Option(help="queued, running, waiting, succeeded, failed or cancelled.")] = None,
    as_json: Json = False,
) -> None:
    """The newest runs of all tenants, without their content."""
    if state not in {None, *STATES}:
        raise typer.BadParameter(f"choose from {', '.join(STATES)}")

    async def work(runtime: Runtime) -> tuple[list[Run], dict[str, str]]:
        query = select(Run).order_by(Run.id.desc()).limit(50)
        if state:
            query = query.where(Run.state == state)
        async with runtime.db.read(ALL_TENANTS) as session:
            found = list(await session.scalars(query))
        return found, await names_by_id(runtime)

    found, names = with_runtime(work)
    rows = [
        {
            "id": r.id,
            "tenant": names.get(r.tenant_id),
            "tenant_id": r.tenant_id,
            "feature": r.feature,
            "state": r.state,
            "error": r.error_code,
            "created": r.created_at,
        }
        for r in found
    ]
    show(rows, as_json=as_json, empty="No runs.")


@runs.command("show")
def show_run(run_id: str, as_json: Json = False) -> None:
    """The tool calls of a run, in order, without their arguments."""

    async def work(runtime: Runtime) -> list[ToolCall]:
        query = select(ToolCall).where(ToolCall.run_id == run_id).order_by(ToolCall.id)
        async with runtime.db.read(ALL_TENANTS) as session:
            if await session.get(Run, run_id) is None:
                raise NotFound("There is no such run.")
            return list(await session.scalars(query))

    rows = [
        {
            "tool": call.tool,
            "effect": call.effect,
            "rule": call.rule,
            "state": call.state,
            "found": call.resolution,
            "key": call.idempotency_key,
        }
        for call in with_runtime(work)
    ]
    show(rows, as_json=as_json, empty="This run has called no tool.")


@runs.command("kill")
def kill_run(run_id: str, reason: Because, dry_run: DryRun = False) -> None:
    """Stop a run within two seconds, whoever's it is. There is no undo: its owner starts it again."""
    if not dry_run:
        with_runtime(lambda runtime: runtime.store.kill(run_id, operator(), reason))
    out.print(f"{'Would stop' if dry_run else 'Stopped'} run {run_id}.", highlight=False)


@approvals.command("list")
def list_approvals(as_json: Json = False) -> None:
    """Questions waiting for a decision, oldest first, with the untrusted text that each run had read."""

    async def work(runtime: Runtime) -> tuple[list[Approval], dict[str, QuestionContext], dict[str, str]]:
        query = select(Approval).where(Approval.state == "pending").order_by(Approval.id).limit(200)
        async with runtime.db.read(ALL_TENANTS) as session:
            found = list(await session.scalars(query.options(*SHOWN_TO_APPROVER)))
        return found, await contexts(runtime.db, ALL_TENANTS, found), await names_by_id(runtime)

    found, known, names = with_runtime(work)
    rows = [
        {
            "id": a.id,
            "run": a.run_id,
            "tenant": names.get(a.tenant_id),
            "tenant_id": a.tenant_id,
            "tool": a.tool,
            "effect": a.effect,
            "tainted": None if _untrusted(known, a) is None else bool(_untrusted(known, a)),
            "untrusted": _untrusted(known, a),
            "asked": a.created_at,
            "expires": a.expires_at,
        }
        for a in found
    ]
    show(rows, as_json=as_json, empty="Nothing waits for a decision.")


def _untrusted(known: dict[str, QuestionContext], approval: Approval) -> list[str] | None:
    """What the run had read, each with its kind; None where that was deleted."""
    read = known.get(approval.id, UNKNOWN).untrusted
    return None if read is None else [f"{source.kind} {source.name}" for source in read]


@approvals.command("expire")
def expire_approvals(dry_run: DryRun = False) -> None:
    """Close every question past its time now instead of at the next round. There is no undo."""
    if dry_run:
        out.print("Would close every question that is past its time.")
        return
    closed = with_runtime(lambda runtime: runtime.approvals.expire_due())
    out.print(f"Closed {closed} question(s).")


@switch.command("list")
def list_switches(as_json: Json = False) -> None:
    """The switches that are on."""
    rows = [
        {"name": s.name, "since": s.thrown_at, "by": s.thrown_by, "reason": s.reason}
        for s in with_runtime(lambda runtime: runtime.board.thrown())
    ]
    show(rows, as_json=as_json, empty="No switch is on.")


@switch.command("on")
def switch_on(name: str, reason: Because, dry_run: DryRun = False) -> None:
    """Stop something: runs, egress, read_only, feature:NAME, tool:NAME, effect:EFFECT, model:NAME or tenant:ID."""
    if not dry_run:
        with_runtime(lambda runtime: runtime.board.throw(name, reason, operator()))
    out.print(f"{'Would throw' if dry_run else 'Threw'} {name}. Undo: app switch off {name} --reason …")


@switch.command("off")
def switch_off(name: str, reason: Because, dry_run: DryRun = False) -> None:
    """Let it run again."""
    if not dry_run:
        with_runtime(lambda runtime: runtime.board.release(name, reason, operator()))
    out.print(f"{'Would release' if dry_run else 'Released'} {name}. Undo: app switch on {name} --reason …")


@audit.command("verify")
def verify_audit(as_json: Json = False) -> None:
    """Recompute every tenant's hash chain; exit 1 when one is broken."""

    async def work(runtime: Runtime) -> tuple[list[ChainReport], dict[str, str]]:
        async with runtime.db.read(ALL_TENANTS) as session:
            tenant_ids = list(await session.scalars(select(AuditHead.tenant_id).order_by(AuditHead.tenant_id)))
        reports = [await trail.verify(runtime.db, ALL_TENANTS, tenant_id) for tenant_id in tenant_ids]
        return reports, await names_by_id(runtime)

    reports, names = with_runtime(work)
    rows = [
        {
            "tenant": names.get(r.tenant_id),
            "tenant_id": r.tenant_id,
            "events": r.events,
            "intact": r.intact,
            "broken_at": r.broken_at,
        }
        for r in reports
    ]
    show(rows, as_json=as_json, empty="No chains.")
    if not all(report.intact for report in reports):
        err.print(
            "The audit trail does not verify: preserve the database and its backups before anything else.", style="red"
        )
        raise typer.Exit(1)


def check_parts() -> list[str]:
    """Build every part and ask the database, as serving would; returns permissions of tools that no role grants."""

    async def work(runtime: Runtime) -> list[str]:
        await runtime.db.ping()
        return sorted(
            {tool.permission for tool in runtime.guard.tools.values()} - runtime.directory.roles.all_permissions
        )

    return with_runtime(work)
