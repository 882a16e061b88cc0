"""Calls that no run made, on their tenant's record: who, which model, how much, and how it ended; never what was said.

What a run asks is on the run's own record. Gate: observability, security.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from app.audit import trail
from app.budgets.caps import Payer
from app.budgets.money import usd
from app.budgets.orders import Settlement
from app.db.engine import Database

NEVER_ASKED = "released"  # a hold that was given back before its provider was asked


@dataclass(frozen=True)
class Ended:
    """A call's row, as it was while it was held, and what became of it."""

    call: Any
    settlement: Settlement


def record_calls(connection: sa.Connection, ended: Sequence[Ended]) -> None:
    """Put those that no run made on record, in the transaction that books them: one record of each member's calls.

    Calls that end together are one link of the chain, so that the record costs a busy tenant little."""
    asked = [each for each in ended if not each.call.run_id and each.settlement.state != NEVER_ASKED]
    calls: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for each in asked:
        member = each.call.tenant_id, each.call.member_id
        calls.setdefault(member, []).append(_facts(each.call, each.settlement))
    entries = [
        trail.Entry(tenant_id, member_id, "model_calls.ended", f"member:{member_id}", {"calls": facts})
        for (tenant_id, member_id), facts in calls.items()
    ]
    trail.append_all_at_once(connection, entries)


async def record_given_again(db: Database, payer: Payer, *, feature: str, model: str, tier: str) -> None:
    """Put an answer on record that is given again: no provider was asked, and it costs nothing."""
    facts = {"feature": feature, "model": model, "tier": tier, "cost_usd": usd(0), "outcome": "ok"}
    who = payer.member_id
    async with db.transaction(payer) as session:
        await trail.append(session, payer.tenant_id, who, "model_calls.given_again", f"member:{who}", calls=[facts])


def _facts(call: Any, settled: Settlement) -> dict[str, Any]:
    used = settled.used
    return {
        "id": call.id, "feature": call.feature, "model": call.model, "tier": call.tier,
        "input_tokens": used.input_tokens, "output_tokens": used.output_tokens, "cost_usd": usd(used.cost_micro),
        "outcome": settled.outcome,
    }  # fmt: skip
