"""Where spend is going: caps that will be reached long before their window ends, told while there is time to act.

Burn: the last hour, kept up for a day, is more than four times what a day may cost. Forecast: the last four hours, kept
up, pass the cap within its window. Each is put on record once an hour at most and shown as a number. Gate: cost.
"""

from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import trail
from app.budgets import book
from app.budgets.book import Window
from app.budgets.caps import Cap, Caps, Payer, ends_at
from app.budgets.models import BudgetWindow, ModelCall
from app.budgets.money import usd
from app.db.base import utc_now
from app.db.engine import Database
from app.db.tenancy import ALL_TENANTS
from app.telemetry.metrics import BUDGET_BURN, BUDGET_FORECAST, BUDGET_LOOKS

log = structlog.get_logger(__name__)
EVERY = timedelta(minutes=1)
MOST_BURN = 4  # times what a day may cost
AGAIN_AFTER = timedelta(hours=1)
BURN_OVER, FORECAST_OVER = timedelta(hours=1), timedelta(hours=4)
SCOPES = ("global", "tenant", "member")


@dataclass(frozen=True)
class Pace:
    """Micro-dollars of the last hour and of the last four."""

    hour: int = 0
    four: int = 0

    def __add__(self, other: "Pace") -> "Pace":
        return Pace(self.hour + other.hour, self.four + other.four)


@dataclass(frozen=True)
class View:
    """How one cap will stand."""

    burn: float  # a day at the pace of the last hour, by what a day may cost
    forecast: float  # what will have been spent when the window ends, by the cap

    @property
    def reasons(self) -> list[str]:
        return [name for name, is_so in (("burn", self.burn > MOST_BURN), ("forecast", self.forecast > 1)) if is_so]


@dataclass
class Outlook:
    db: Database
    caps: Caps
    looked_at: datetime | None = None

    async def look(self) -> None:
        """Look at every cap that somebody has spent under in the last four hours; at most once a minute."""
        now = utc_now()
        if self.looked_at is not None and now - self.looked_at < EVERY:
            return
        self.looked_at = now
        async with self.db.read(ALL_TENANTS) as session:
            paces = await self._paces(session, now)
            windows = await session.run_sync(lambda s: book.seen(s.connection(), list(paces)))
        views = {cap: view(cap, paces[cap][0], windows[cap], now) for cap in paces}
        for scope in SCOPES:
            mine = [each for cap, each in views.items() if cap.scope == scope]
            BUDGET_BURN.labels(scope).set(max((each.burn for each in mine), default=0))
            BUDGET_FORECAST.labels(scope).set(max((each.forecast for each in mine), default=0))
        for cap, each in views.items():
            for reason in each.reasons:
                await self._tell(cap, paces[cap][1], reason, windows[cap], now)
        BUDGET_LOOKS.inc()

    async def _paces(self, session: AsyncSession, now: datetime) -> Mapping[Cap, tuple[Pace, str]]:
        """By cap: the pace, and whose records tell of it."""
        of_hour = func.sum(case((ModelCall.started_at >= now - BURN_OVER, ModelCall.cost_micro), else_=0))
        query = select(ModelCall.tenant_id, ModelCall.member_id, of_hour, func.sum(ModelCall.cost_micro))
        query = query.where(ModelCall.started_at >= now - FORECAST_OVER).group_by(
            ModelCall.tenant_id, ModelCall.member_id
        )
        found: dict[Cap, tuple[Pace, str]] = {}
        for tenant_id, member_id, hour, four in await session.execute(query):
            payer = Payer(tenant_id, member_id)
            for cap in self.caps.of(payer, now):
                pace = found[cap][0] if cap in found else Pace()
                found[cap] = pace + Pace(int(hour), int(four)), book.chain(cap, payer)
        return found

    async def _tell(self, cap: Cap, chain: str, reason: str, window: Window, now: datetime) -> None:
        key = (cap.scope, cap.scope_id, cap.window)
        async with self.db.transaction(ALL_TENANTS) as session:
            row = await session.get(BudgetWindow, key, with_for_update=True)
            told = (row.warned or {}).get(reason) if row is not None else None
            if row is None or (told is not None and now - datetime.fromisoformat(told) < AGAIN_AFTER):
                return
            row.warned = {**(row.warned or {}), reason: now.isoformat()}
            log.warning("budget.outlook", reason=reason, scope=cap.scope, scope_id=cap.scope_id)
            facts = {
                "window": cap.window,
                "spent_usd": usd(window.spent_micro),
                "limit_usd": usd(window.limit_micro or 0),
            }
            await trail.append(
                session, chain, "system", f"budget.{reason}", f"budget:{cap.scope}:{cap.scope_id}", **facts
            )


def view(cap: Cap, pace: Pace, window: Window, now: datetime) -> View:
    """How this cap will stand when its window ends, if all goes on as it does."""
    if window.limit_micro is None:
        return View(0, 0)
    days = monthrange(now.year, now.month)[1] if cap.period == "month" else 1
    limit = max(1, window.limit_micro)
    left = max(timedelta(), ends_at(cap) - now)
    goes_on = pace.four * (left / FORECAST_OVER)
    return View(pace.hour * 24 / (limit / days), (window.spent_micro + window.held_micro + goes_on) / limit)
