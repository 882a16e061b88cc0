"""The report of one rollout, as JSON for programs and as one HTML page for people. Gate: deployment."""

import html
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from app.rollout.record import Record, State, replace

COLUMNS = ("metric", "criticality", "outcome", "canary", "stable", "test", "p", "effect", "upper", "margin")
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;display:block;overflow-x:auto}"
    "th,td{text-align:left;padding:.25rem .75rem;border-bottom:1px solid #999}"
)


def document(record: Record, state: State) -> dict[str, Any]:
    """What is known of the rollout that the state is of."""
    events = [line for line in record.logged() if line["rollout"] == state.rollout]
    ends = {"promoted": "promoted", "aborted": "aborted"}
    ended = next((ends[line["event"]] for line in reversed(events) if line["event"] in ends), "under way")
    return {
        "rollout": state.rollout,
        "kind": state.kind,
        "outcome": ended,
        "reason": state.reason,
        "began": state.began.isoformat() if state.began else None,
        "digest": events[0]["digest"] if events else None,
        "serves": state.stable.digest if state.stable else None,
        "previous": state.previous,
        "looks": [_finite(look) for look in state.looks],
        "events": events,
    }


def _finite(value: Any) -> Any:
    """As JSON has it: a ratio without bound is null."""
    match value:
        case float() if value in {float("inf"), float("-inf")} or value != value:  # noqa: PLR0124 - NaN
            return None
        case dict():
            return {key: _finite(each) for key, each in value.items()}
        case list() | tuple():
            return [_finite(each) for each in value]
    return value


def write(record: Record, state: State) -> Path:
    """Write both files; returns the page's path."""
    told = document(record, state)
    page = record.folder / "reports" / f"{state.kind}-{state.rollout:04}.html"
    replace(page.with_suffix(".json"), json.dumps(told, indent=1))
    replace(page, _page(told))
    return page


def open_incident(record: Record, state: State, at: str) -> Path:
    """A file for whoever follows up an abort. It is never overwritten: a person writes in it."""
    file = record.folder / "incidents" / f"{state.kind}-{state.rollout:04}.md"
    canary = state.canary.digest if state.canary else "unknown"
    serves = state.stable.digest if state.stable else "nothing"
    lines = [
        f"# {state.kind.capitalize()} {state.rollout} was aborted",
        "",
        "- State: open",
        f"- At: {at}",
        f"- Version: {canary}",
        f"- Serving again: {serves}",
        f"- Stage {state.stage}, look {state.look}",
        f"- Reason: {state.reason}",
        f"- Report: ../reports/{state.kind}-{state.rollout:04}.html",
        "",
        "## Cause",
        "",
        "## Follow-up",
        "",
    ]
    if not file.exists():
        replace(file, "\n".join(lines))
    return file


def _page(told: dict[str, Any]) -> str:
    title = f"{told['kind']} {told['rollout']}: {told['outcome']}"
    parts = [f"<h1>{_text(title)}</h1>"]
    if told["reason"]:
        parts.append(f"<p>{_text(told['reason'])}</p>")
    parts.append(f"<p>Version <code>{_text(told['digest'])}</code>, began {_text(told['began'])}.</p>")
    for look in told["looks"]:
        parts.append(f"<h2>Stage {_text(look['stage'])}, look {_text(look['look'])}: {_text(look['kind'])}</h2>")
        parts.append(f"<p>{_text(look['rule'])}: {_text(look['message'])}</p>")
        rows = [[_short(finding[name]) for name in COLUMNS] for finding in look["findings"]]
        parts.append(_table(COLUMNS, rows) if rows else "")
    parts.append("<h2>Log</h2>")
    names = ("time", "event", "slot")
    rest = [
        {k: v for k, v in line.items() if k not in {*names, "rollout", "kind", "digest"}} for line in told["events"]
    ]
    rows = [
        [*(_short(e[name]) for name in names), json.dumps(more)] for e, more in zip(told["events"], rest, strict=True)
    ]
    parts.append(_table((*names, "details"), rows))
    head = f'<meta charset="utf-8"><title>{_text(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _table(names: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th scope=col>{_text(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _short(value: Any) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _text(value: Any) -> str:
    return html.escape(str(value))
