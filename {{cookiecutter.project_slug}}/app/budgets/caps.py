"""Which caps apply to a call: global per day, tenant per month, member per day, and per run."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from app.budgets.money import to_micro
from app.db.base import utc_now
from app.settings import read_config


class CapsTable(BaseModel):
    model_config = ConfigDict(extra="forbid")
    global_daily_usd: Decimal = Field(Decimal("50.00"), ge=0)
    tenant_monthly_usd: Decimal = Field(Decimal("20.00"), ge=0)
    member_daily_usd: Decimal = Field(Decimal("5.00"), ge=0)
    run_usd: Decimal = Field(Decimal("0.50"), ge=0)
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
    default_limit_micro: int


@dataclass(frozen=True)
class Caps:
    table: CapsTable

    @classmethod
    def load(cls, path: Path) -> "Caps":
        return cls(read_config(path, BudgetsFile).caps)

    @property
    def run_micro(self) -> int:
        """What one run may cost."""
        return to_micro(self.table.run_usd)

    def of(self, payer: Payer, at: datetime | None = None) -> list[Cap]:
        """Every cap the payer's call must fit under, in the one order in which rows are locked."""
        now = at or utc_now()
        day, month = f"{now:%Y-%m-%d}", f"{now:%Y-%m}"
        shared = [
            Cap("global", "*", day, to_micro(self.table.global_daily_usd)),
            Cap("tenant", payer.tenant_id, month, to_micro(self.table.tenant_monthly_usd)),
            Cap("member", payer.member_id, day, to_micro(self.table.member_daily_usd)),
        ]
        run = Cap("run", payer.run_id, "run", self.run_micro)
        return [*shared, run] if payer.run_id else shared


def resets_at(cap: Cap) -> str:
    """When the cap's window ends, RFC 3339; a run's never does."""
    return "never (per run)" if cap.window == "run" else ends_at(cap).strftime("%Y-%m-%dT00:00:00Z")


def is_monthly(cap: Cap) -> bool:
    return cap.window.count("-") == 1


def ends_at(cap: Cap) -> datetime:
    """When the window of a day or a month ends."""
    if is_monthly(cap):
        first = datetime.strptime(cap.window, "%Y-%m").replace(tzinfo=UTC)
        return (first + timedelta(days=32)).replace(day=1)
    return datetime.strptime(cap.window, "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=1)
