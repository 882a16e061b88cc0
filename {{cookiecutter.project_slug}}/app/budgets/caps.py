"""Which caps apply to a call: of everybody, its tenant and its member, each per day and per month, and of its run."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.budgets.money import to_micro
from app.config_files import read_config
from app.db.base import utc_now

Period = Literal["day", "month", "run"]
USUAL: Mapping[str, Period] = {
    "global": "day",
    "tenant": "month",
    "member": "day",
    "run": "run",
}  # meant without a word
MOST_USD = 10_000_000  # of any cap: more is a slip of the pen, and as good as none
Limit = Annotated[Decimal, Field(ge=0, le=MOST_USD)]


class CapsTable(BaseModel):
    """What is not named is not capped, but for the three that always are."""

    model_config = ConfigDict(extra="forbid")
    global_daily_usd: Limit = Decimal("50.00")
    global_monthly_usd: Limit | None = None
    tenant_daily_usd: Limit | None = None
    tenant_monthly_usd: Limit = Decimal("20.00")
    member_daily_usd: Limit = Decimal("5.00")
    member_monthly_usd: Limit | None = None
    run_usd: Limit = Decimal("0.50")
    soft_step: Decimal = Field(Decimal("0.8"), gt=0, le=1, description="part of a cap from which cheaper models answer")


class BudgetsFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    caps: CapsTable = Field(default_factory=CapsTable)


@dataclass(frozen=True)
class Payer:
    """Whom a model call is charged to."""

    tenant_id: str
    member_id: str
    run_id: str = ""  # empty: a call that belongs to no run


@dataclass(frozen=True)
class Cap:
    scope: str
    scope_id: str
    window: str
    default_limit_micro: int | None  # None: it is counted, and not capped until somebody sets a cap

    @property
    def period(self) -> Period:
        return period_of(self.window)


@dataclass(frozen=True)
class Caps:
    table: CapsTable

    @classmethod
    def load(cls, path: Path) -> "Caps":
        return cls(read_config(path, BudgetsFile).caps)

    @cached_property
    def run_micro(self) -> int:
        """What one run may cost."""
        return to_micro(self.table.run_usd)

    def of(self, payer: Payer, at: datetime | None = None) -> list[Cap]:
        """Every cap the payer's call must fit under, in the one order in which rows are locked."""
        now = at or utc_now()
        day, month = f"{now:%Y-%m-%d}", f"{now:%Y-%m}"
        whose = {"global": "*", "tenant": payer.tenant_id, "member": payer.member_id}
        shared = [
            Cap(scope, scope_id, window, self._limits[scope, window == month])
            for scope, scope_id in whose.items()
            for window in (day, month)
        ]
        run = Cap("run", payer.run_id, "run", self.run_micro)
        return [*shared, run] if payer.run_id else shared

    @cached_property
    def _limits(self) -> Mapping[tuple[str, bool], int | None]:
        """By scope, and whether it is a month's."""
        named = {
            (scope, monthly): getattr(self.table, f"{scope}_{'monthly' if monthly else 'daily'}_usd")
            for scope in ("global", "tenant", "member")
            for monthly in (False, True)
        }
        return {key: None if limit is None else to_micro(limit) for key, limit in named.items()}


def unusual(cap: Cap) -> str:
    """The period by which a cap is found: empty for the one that its scope has without a word."""
    return "" if cap.period == USUAL[cap.scope] else cap.period


def resets_at(cap: Cap) -> str:
    """When the cap's window ends, RFC 3339; a run's never does."""
    return "never (per run)" if cap.window == "run" else ends_at(cap).strftime("%Y-%m-%dT00:00:00Z")


def period_of(window: str) -> Period:
    """Of which kind a window is, by its name: 2026-11-24, 2026-11, run."""
    return "run" if window == "run" else "month" if window.count("-") == 1 else "day"


def ends_at(cap: Cap) -> datetime:
    """When the window of a day or a month ends."""
    if cap.period == "month":
        first = datetime.strptime(cap.window, "%Y-%m").replace(tzinfo=UTC)
        return (first + timedelta(days=32)).replace(day=1)
    return datetime.strptime(cap.window, "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=1)
