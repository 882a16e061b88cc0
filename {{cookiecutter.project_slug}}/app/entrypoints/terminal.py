"""How commands speak: tables and sentences for people, `--json` for programs, errors on stderr."""

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

out = Console()
err = Console(stderr=True)


def show(rows: Sequence[dict[str, Any]], *, as_json: bool, empty: str) -> None:
    """Print records as a table, or as one JSON document."""
    if as_json:
        print(json.dumps(rows, default=str, ensure_ascii=False))
        return
    if not rows:
        out.print(empty, style="dim")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    out.print(table)
