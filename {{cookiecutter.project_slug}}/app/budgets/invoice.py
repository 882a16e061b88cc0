"""A provider's invoice beside what was booked here: whoever is charged for calls that are not on record, finds out.

Gate: cost.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path

from app.budgets.money import from_micro
from app.budgets.spend import Spend
from app.db.tenancy import ALL_TENANTS

COLUMNS = ("model", "cost_usd")
TOLERANCE = Decimal("0.02")


class InvoiceInvalid(ValueError):
    """The file is not an invoice that is read here; the message says what is missing where."""


@dataclass(frozen=True)
class Line:
    model: str
    billed_usd: Decimal
    booked_usd: Decimal

    @property
    def difference(self) -> Decimal | None:
        """Of what was booked, as a part of the bill; None where nothing was billed."""
        return (self.booked_usd - self.billed_usd) / self.billed_usd if self.billed_usd else None

    @property
    def agrees(self) -> bool:
        return self.booked_usd == 0 if self.difference is None else abs(self.difference) <= TOLERANCE


def read(path: Path) -> dict[str, Decimal]:
    """US dollars by model, from a CSV file with the columns `model` and `cost_usd`. Raises InvoiceInvalid."""
    billed: dict[str, Decimal] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
            if missing:
                raise InvoiceInvalid(f"{path.name}: no column {', '.join(missing)}; there must be {', '.join(COLUMNS)}")
            for row in rows:
                cost = _amount(row["cost_usd"] or "", f"{path.name}, line {rows.line_num}")
                billed[row["model"]] = billed.get(row["model"], Decimal(0)) + cost
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvoiceInvalid(f"{path.name} cannot be read: {error}") from None
    return billed


def _amount(text: str, place: str) -> Decimal:
    try:
        amount = Decimal(text.strip())
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite():
        raise InvoiceInvalid(f"{place}: cost_usd is no amount in US dollars")
    return amount


async def compared(spend: Spend, billed: Mapping[str, Decimal], month: str) -> list[Line]:
    """Each model's bill and what all tenants were charged for it in a month such as 2026-11, and then the total."""
    since = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    until = (since + timedelta(days=32)).replace(day=1)
    rows = await spend.by(ALL_TENANTS, ("model",), since, until)
    booked = {row.of["model"]: from_micro(row.cost_micro) for row in rows}
    nothing = Decimal(0)
    lines = [Line(m, billed.get(m, nothing), booked.get(m, nothing)) for m in sorted({*billed, *booked})]
    return [*lines, Line("all", sum(billed.values(), nothing), sum(booked.values(), nothing))]
