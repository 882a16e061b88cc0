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
    """Put those that no run made on record, in the transaction that books them."""
    asked = [each for each in ended if not each.call.run_id and each.settlement.state != NEVER_ASKED]
    trail.append_all_at_once(connection, [_entry(each.call, each.settlement) for each in asked])


async def record_given_again(db: Database, payer: Payer, *, feature: str, model: str, tier: str) -> None:
    """Put an answer on record that is given again: no provider was asked, and it costs nothing."""
    facts = {"feature": feature, "model": model, "tier": tier, "cost_usd": usd(0), "outcome": "ok"}
    async with db.transaction(payer) as session:
        await trail.append(
            session, payer.tenant_id, payer.member_id, "model_call.given_again", f"model:{model}", **facts
        )


def _entry(call: Any, settled: Settlement) -> trail.Entry:
    used = settled.used
    facts = {
        "feature": call.feature, "model": call.model, "tier": call.tier, "input_tokens": used.input_tokens,
        "output_tokens": used.output_tokens, "cost_usd": usd(used.cost_micro), "outcome": settled.outcome,
    }  # fmt: skip
    return trail.Entry(call.tenant_id, call.member_id, "model_call.ended", f"model_call:{call.id}", facts)
