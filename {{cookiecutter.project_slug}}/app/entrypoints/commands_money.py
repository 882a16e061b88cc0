"""What an operator does about money: see what is spent and by whom, change caps, compare an invoice."""

import re
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer

from app.budgets import invoice
from app.budgets.book import Window
from app.budgets.caps import USUAL, Cap, Payer
from app.budgets.layers import LayeredLimit
from app.budgets.money import shown, to_micro, usd
from app.budgets.spend import DIMENSIONS, SpendRow
from app.db.base import utc_now
from app.db.tenancy import ALL_TENANTS
from app.entrypoints.command_context import Because, DryRun, Json, operator, with_runtime
from app.entrypoints.names import names_by_id
from app.entrypoints.terminal import Share, out, show
from app.identity.layers import PEOPLE
from app.runtime import Runtime

budget = typer.Typer(no_args_is_help=True, help="Caps on spend.")
MOST_USD = 10_000_000
Whose = Annotated[str, typer.Argument(help="A tenant's name, or: global")]
WhichPeriod = Annotated[str, typer.Option("--period", help="day or month; without it a tenant's month, global's day.")]


def _amount(text: str) -> int:
    try:
        amount = to_micro(Decimal(text))
    except (InvalidOperation, ValueError, OverflowError):
        raise typer.BadParameter("an amount in US dollars, such as 25 or 12.50") from None
    if not 0 <= amount <= to_micro(Decimal(MOST_USD)):
        raise typer.BadParameter(f"between 0 and {MOST_USD} US dollars")
    return amount


async def _payer(runtime: Runtime, whose: str) -> tuple[Payer, str]:
    """Whose cap that is, and its scope."""
    if whose == "global":
        return Payer("", ""), "global"
    return Payer(await runtime.directory.tenant_id(whose), ""), "tenant"


def _period(asked: str, whose: str) -> str:
    if asked not in {"", "day", "month"}:
        raise typer.BadParameter("day or month", param_hint="--period")
    return asked or USUAL["global" if whose == "global" else "tenant"]


@budget.command("show")
def show_budgets(as_json: Json = False) -> None:
    """Every budget window that has been touched."""

    async def work(runtime: Runtime) -> tuple[list[tuple[Cap, Window]], dict[str, str]]:
        return await runtime.ledger.touched(), await names_by_id(runtime)

    touched, names = with_runtime(work)
    rows = [
        {
            "scope": cap.scope,
            "name": names.get(cap.scope_id),
            "id": cap.scope_id or None,
            "window": cap.window,
            "limit_usd": _usd(window.limit_micro),
            "operator_usd": _usd(window.limit.operator_micro),
            "tenant_usd": _usd(window.limit.tenant_micro),
            "limited_by": window.limit.limited_by,
            "spent_usd": usd(window.spent_micro),
            "held_usd": usd(window.held_micro),
            "frozen": bool(window.limit.frozen_by),
            "frozen_by": list(window.limit.frozen_by),
        }
        for cap, window in touched
    ]
    show(rows, as_json=as_json, empty="Nothing has been spent yet.")


def _usd(micro: int | None) -> str | None:
    return None if micro is None else usd(micro)


@budget.command("set")
def set_budget(whose: Whose, amount_usd: str, period: WhichPeriod = "", dry_run: DryRun = False) -> None:
    """Set a cap in US dollars: a tenant's of a month, everybody's of a day, or of the other. Undo: set it back.

    Your top-ups of the open window end: what is set is in force.
    A tenant's administrators may set a lower one of their own, and none above it."""
    limit, wanted = _amount(amount_usd), _period(period, whose)

    async def work(runtime: Runtime) -> LayeredLimit | None:
        payer, scope = await _payer(runtime, whose)
        if dry_run:
            return None
        return await runtime.ledger.set_cap(payer, scope, limit, actor=operator(), period=wanted)

    both = with_runtime(work)
    out.print(f"{'Would set' if dry_run else 'Set'} {whose} to {shown(limit)} a {wanted}.", highlight=False)
    _say_what_holds(both)


def _say_what_holds(both: LayeredLimit | None) -> None:
    """Say so where the tenant's own limit is the one in force."""
    if both is not None and both.limited_by == "tenant" and both.tenant_micro is not None:
        out.print(f"In force is {shown(both.tenant_micro)}, a limit of {PEOPLE['tenant']}.", highlight=False)


@budget.command("top-up")
def top_up(whose: Whose, amount_usd: str, reason: Because, period: WhichPeriod = "", dry_run: DryRun = False) -> None:
    """Allow more in the window that is open now; the next has its usual cap. There is no undo."""
    amount, wanted = _amount(amount_usd), _period(period, whose)

    async def work(runtime: Runtime) -> LayeredLimit | None:
        payer, scope = await _payer(runtime, whose)
        if dry_run:
            return None
        return await runtime.ledger.top_up(
            payer, scope, amount, actor=operator(), reason=reason, period=wanted
        )  # fmt: skip

    both = with_runtime(work)
    out.print(
        f"{'Would add' if dry_run else 'Added'} {shown(amount)} to {whose}, this {wanted} alone.", highlight=False
    )
    _say_what_holds(both)


@budget.command("freeze")
def freeze(whose: Whose, reason: Because, dry_run: DryRun = False) -> None:
    """Let nothing more be spent: every model call is refused before it is made. Undo: app budget thaw."""
    _freeze(whose, reason, frozen=True, dry_run=dry_run)
    out.print(f"{'Would freeze' if dry_run else 'Froze'} {whose}. Undo: app budget thaw {whose} --reason …")


@budget.command("thaw")
def thaw(whose: Whose, reason: Because, dry_run: DryRun = False) -> None:
    """Let it be spent again, under the same cap as before; a tenant's own freeze stays. Undo: app budget freeze."""
    both = _freeze(whose, reason, frozen=False, dry_run=dry_run)
    out.print(f"{'Would thaw' if dry_run else 'Thawed'} {whose}. Undo: app budget freeze {whose} --reason …")
    if both is not None and both.tenant_frozen:
        out.print(f"Still frozen by {PEOPLE['tenant']}: PUT /v1/budgets.", highlight=False)


def _freeze(whose: str, reason: str, *, frozen: bool, dry_run: bool) -> LayeredLimit | None:
    async def work(runtime: Runtime) -> LayeredLimit | None:
        payer, scope = await _payer(runtime, whose)
        if dry_run:
            return None
        return await runtime.ledger.freeze(payer, scope, frozen=frozen, actor=operator(), reason=reason)

    return with_runtime(work)


def usage(
    by: Annotated[
        list[str] | None, typer.Option(help=f"What to sum up by; may be repeated: {', '.join(DIMENSIONS)}.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=366, help="How far back.")] = 31,
    as_json: Json = False,
) -> None:
    """What was spent, of all tenants, by day, tenant, member, feature, tier, model or prompt version."""
    wanted = list(dict.fromkeys(by or ["tenant", "model"]))
    if not set(wanted) <= set(DIMENSIONS):
        raise typer.BadParameter(f"choose from {', '.join(DIMENSIONS)}")

    async def work(runtime: Runtime) -> tuple[list[SpendRow], dict[str, str]]:
        rows = await runtime.spend.by(ALL_TENANTS, wanted, utc_now() - timedelta(days=days))
        return rows, await names_by_id(runtime)

    spent, names = with_runtime(work)
    rows = [
        {
            **_named(row.of, names),
            "calls": row.calls,
            "input_tokens": row.input_tokens,
            "output_tokens": row.output_tokens,
            "cost_usd": usd(row.cost_micro),
        }
        for row in spent
    ]
    show(rows, as_json=as_json, empty="Nothing has been spent in this time.")


def _named(of: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str | None]:
    """What a sum is of; tenants and members by name and by id."""
    shown: dict[str, str | None] = {}
    for dimension, value in of.items():
        if dimension in {"tenant", "member"}:
            shown |= {dimension: names.get(value), f"{dimension}_id": value}
        else:
            shown[dimension] = value
    return shown


def reconcile(
    file: Annotated[Path, typer.Argument(help="CSV with the columns model and cost_usd.")],
    month: Annotated[str, typer.Option(help="Such as 2026-11.")],
    as_json: Json = False,
) -> None:
    """Compare a provider's invoice with what was booked; exit 1 where they differ by more than 2 %."""
    if not re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", month):
        raise typer.BadParameter("a month, such as 2026-11")
    try:
        billed = invoice.read(file)
        lines = with_runtime(lambda runtime: invoice.compared(runtime.spend, billed, month))
    except invoice.InvoiceInvalid as error:
        raise typer.BadParameter(str(error)) from None
    rows = [
        {
            "model": line.model,
            "billed_usd": f"{line.billed_usd:.6f}",
            "booked_usd": f"{line.booked_usd:.6f}",
            "difference": None if line.difference is None else Share(line.difference),
            "agrees": line.agrees,
        }
        for line in lines
    ]
    show(rows, as_json=as_json, empty="")
    if not all(line.agrees for line in lines):
        raise typer.Exit(1)
