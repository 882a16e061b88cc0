"""How commands speak: tables and sentences for people, `--json` for programs, errors on stderr."""

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE = 240  # ids must stay whole to be copied; a narrow terminal wraps by itself
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
        table.add_column(name.replace("_", " "), no_wrap=True, overflow="ignore")
    for row in rows:
        table.add_row(*(_plain(value) for value in row.values()))
    # A console as wide as it takes: the real one's width would cut ids, which must stay whole to be copied.
    Console(width=max(out.width, WIDE)).print(table, crop=False, no_wrap=True, overflow="ignore", soft_wrap=True)


def _plain(value: Any) -> Text:
    """Stored text as text: neither markup nor escape sequences of it reach the terminal."""
    return Text("".join(char if char.isprintable() else "?" for char in str(value)))
