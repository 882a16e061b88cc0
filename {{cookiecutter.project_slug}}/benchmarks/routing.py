"""How often the router gives a request the tier that a person would have given it: `make benchmarks`.

Requests and labels are in routing.toml. A tier too strong costs money, one too weak costs an answer; both are counted.
"""

import time
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from app.gateway.catalog import Catalog
from app.gateway.routing import AUTO, Look, Router
from app.settings import ROOT

LABELLED = Path(__file__).with_name("routing.toml")
LEAST_AGREEMENT = 0.75  # of the half that the weights were not set by
Pairs = Sequence[tuple[str, str]]  # label, request


def halves(path: Path = LABELLED) -> tuple[Pairs, Pairs]:
    """The half of each list that the weights were set by, and the other."""
    lists: dict[str, list[str]] = tomllib.loads(path.read_text())
    first = [(label, text) for label, texts in lists.items() for text in texts[: len(texts) // 2]]
    second = [(label, text) for label, texts in lists.items() for text in texts[len(texts) // 2 :]]
    return first, second


def chosen(router: Router, text: str) -> str:
    return router.route(AUTO, Look(text), most=router.order[-1], tight=False).tier


def main() -> int:
    router = Catalog.load(ROOT / "config" / "models.toml", "offline").router
    out, agreement = Console(highlight=False), 0.0
    for name, pairs in zip(("set by", "not seen"), halves(), strict=True):
        began = time.perf_counter()
        seen = Counter((label, chosen(router, text)) for label, text in pairs)
        micros = (time.perf_counter() - began) / len(pairs) * 1_000_000
        agreement = sum(count for (label, tier), count in seen.items() if label == tier) / len(pairs)
        table = Table(title=f"{name}: {agreement:.0%} of {len(pairs)} as labelled, {micros:.0f} µs each", box=None)
        for column in ("labelled", *router.order):
            table.add_column(column, justify="right")
        for label in router.order:
            table.add_row(label, *(str(seen[label, tier]) for tier in router.order))
        out.print(table)
    if agreement < LEAST_AGREEMENT:
        out.print(f"[red]Fewer than {LEAST_AGREEMENT:.0%} of the requests that it was not set by.[/]")
    return int(agreement < LEAST_AGREEMENT)


if __name__ == "__main__":
    raise SystemExit(main())
