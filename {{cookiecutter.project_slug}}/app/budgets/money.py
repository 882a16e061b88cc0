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


def pattern_at_most(micro: int) -> str:
    """A regular expression for the plain decimals from 0 to `micro` micro-dollars, at most six places each.

    A contract can state a bound of a number, but of a decimal in a text only this way. ECMA-262, no lookaround."""
    whole, _, parts = usd(micro).partition(".")
    below = [f"{whole[:at]}{digits}[0-9]{{{len(whole) - at - 1}}}" for at, digits in _smaller(whole, leading=True)]
    shorter = [f"[1-9][0-9]{{0,{len(whole) - 2}}}", "0"] if len(whole) > 1 else []
    equal = [f"{parts[:at]}{digits}[0-9]{{0,{5 - at}}}" for at, digits in _smaller(parts)]
    equal += [parts[:size] for size in range(1, len(parts) + 1)]
    any_part = rf"({'|'.join([*shorter, *below])})(\.[0-9]{{1,6}})?|" if shorter or below else ""
    return rf"^({any_part}{whole}(\.({'|'.join(equal)}))?)$"


def _smaller(digits: str, *, leading: bool = False) -> list[tuple[int, str]]:
    """Where a number may first be smaller, and by which digits; a longer one has no zero in front."""
    least = [1 if leading and at == 0 and len(digits) > 1 else 0 for at in range(len(digits))]
    return [
        (at, f"[{first}-{int(digit) - 1}]")
        for at, (digit, first) in enumerate(zip(digits, least, strict=True))
        if int(digit) > first
    ]


def shown(micro: int) -> str:
    """For people: at least cents, and smaller parts only where there are any: `$20.00`, `$0.000123`."""
    whole, _, parts = usd(micro).partition(".")
    return f"${whole}.{parts[:2]}{parts[2:].rstrip('0')}"
