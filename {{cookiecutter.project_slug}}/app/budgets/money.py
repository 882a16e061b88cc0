"""Money is whole micro-dollars in the database and Decimal US dollars everywhere else."""

from decimal import ROUND_CEILING, Decimal

MICRO = Decimal(1_000_000)


def to_micro(usd: Decimal) -> int:
    """Round up to the next micro-dollar, so that a sum of parts is never below the real cost."""
    return int((usd * MICRO).to_integral_value(ROUND_CEILING))


def from_micro(micro: int) -> Decimal:
    return Decimal(micro) / MICRO


def usd(micro: int) -> str:
    """A plain decimal string, six places: `0.000123`."""
    return f"{from_micro(micro):.6f}"


def shown(micro: int) -> str:
    """For people: at least cents, and smaller parts only where there are any: `$20.00`, `$0.000123`."""
    whole, _, parts = usd(micro).partition(".")
    return f"${whole}.{parts[:2]}{parts[2:].rstrip('0')}"
