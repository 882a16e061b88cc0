"""How commands speak: tables and sentences for people, `--json` for programs, errors on stderr."""

import io
import json
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE = 100_000  # wider than any row: ids must stay whole to be copied; a narrow terminal wraps by itself
out = Console(emoji=False)  # `sha256:100:` is no pictogram
err = Console(stderr=True, emoji=False)


class ArgumentUnreadable(Exception):
    """An argument is text in no encoding that is known here."""


def accept_any_terminal() -> None:
    """Let output lose letters that the terminal's encoding has not, rather than end the command with an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # and not what a test put in its place
            stream.reconfigure(errors="replace")


def readable(arguments: Sequence[str]) -> list[str]:
    """The arguments as text. Where the locale could not read their bytes they are UTF-8. Raises ArgumentUnreadable."""
    try:
        return [os.fsencode(each).decode() if _has_surrogates(each) else each for each in arguments]
    except UnicodeDecodeError:
        raise ArgumentUnreadable("An argument is not text in this terminal's encoding; use a UTF-8 locale.") from None


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)


class Share(float):
    """A part of something, such as 0.02: a number in JSON, and per cent for people."""

    def __str__(self) -> str:
        return f"{self:+.2%}"


def show(rows: Sequence[dict[str, Any]], *, as_json: bool, empty: str) -> None:
    """Print records as a table, or as one JSON document.

    Records hold values and not their words: None, booleans, numbers, lists and datetimes, amounts of money as decimal
    strings. Raises TypeError for what has no form in JSON."""
    if as_json:
        is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
        print(json.dumps(rows, default=_in_json, ensure_ascii=not is_unicode))
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


def _in_json(value: Any) -> str:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")  # RFC 3339, as the API does; the store's times are UTC
    raise TypeError(f"{type(value).__name__} has no form in JSON: give a value that has")


def _plain(value: Any) -> Text:
    """Stored text as text: neither markup nor escape sequences of it reach the terminal."""
    return Text("".join(char if char.isprintable() else "?" for char in _in_words(value)))


def _in_words(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}Z"
        case list() | tuple():
            return ", ".join(map(str, value)) or "-"
    return str(value)
