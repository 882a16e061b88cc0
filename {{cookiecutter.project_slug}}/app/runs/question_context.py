"""What a person should know of a run before they decide what it asks: its task, and what untrusted text it has read.

Documents and results of tools may carry instructions of somebody else (OWASP LLM01). A question of a run that has read
some must not look like one of a run that has not. Gate: security, validation.
"""

import json
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from sqlalchemy import select

from app.content.invisible import escaped, has_hidden, hidden_in
from app.db.engine import Database
from app.db.tenancy import TenantScope
from app.runs.models import RunContent
from app.runs.repeated_passages import Passages, plain
from app.tools.calls import READ_BY_MODEL
from app.tools.models import Approval, ToolCall

EXCERPT = 240  # characters
BEFORE_MATCH = 60  # of them, so that the words around a repeated passage are seen
RUNS_AT_ONCE = 4  # whose documents are in memory together


@dataclass(frozen=True)
class UntrustedSource:
    """A document, or the results of a tool. `name` and `excerpt` have hidden characters escaped."""

    kind: Literal["document", "tool"]
    name: str
    excerpt: str  # around the passage that an argument repeats, where there is one
    repeated_in: tuple[str, ...]  # JSON pointers of the arguments that repeat words of it
    has_hidden: bool  # whether it holds characters that a person does not see


@dataclass(frozen=True)
class QuestionContext:
    """The run's task, escaped, and what it had read when it asked; empty where that was nothing.

    Both are None once retention has deleted the run's content, `untrusted` as well once the question is closed."""

    task: str | None = None
    untrusted: tuple[UntrustedSource, ...] | None = None


UNKNOWN = QuestionContext()


@dataclass(frozen=True)
class _Text:
    """What a source says, before it is cut."""

    kind: Literal["document", "tool"]
    name: str
    text: str


async def contexts(db: Database, caller: TenantScope, approvals: Sequence[Approval]) -> dict[str, QuestionContext]:
    """The context of each question, by its id."""
    async with db.read(caller) as session:
        query = select(RunContent.run_id, RunContent.task)
        rows = await session.execute(query.where(RunContent.run_id.in_({each.run_id for each in approvals})))
        tasks = {row.run_id: escaped(row.task) for row in rows}
    known = [each for each in approvals if each.run_id in tasks]
    found = {each.id: QuestionContext(tasks[each.run_id]) for each in known}
    pending = [each for each in known if each.state == "pending"]
    run_ids = iter(dict.fromkeys(each.run_id for each in pending))
    while some := set(islice(run_ids, RUNS_AT_ONCE)):
        texts = await _texts_read(db, caller, some)
        for each in (each for each in pending if each.run_id in some):
            found[each.id] = QuestionContext(tasks[each.run_id], _sources(each, texts.get(each.run_id, [])))
    return found


async def _texts_read(db: Database, caller: TenantScope, run_ids: Collection[str]) -> dict[str, list[_Text]]:
    """The documents of each run and one text for each tool whose results it has read; those of delegates are its own.

    No times are compared: a run does nothing while a question of it is open, and workers' clocks differ."""
    documents = select(RunContent.run_id, RunContent.documents).where(RunContent.run_id.in_(run_ids))
    results = select(ToolCall.run_id, ToolCall.tool, ToolCall.result).where(
        ToolCall.run_id.in_(run_ids), ToolCall.state.in_(READ_BY_MODEL)
    )
    said: dict[tuple[str, str], list[str]] = {}
    async with db.read(caller) as session:
        texts = {
            row.run_id: [_Text("document", each["name"], each["text"]) for each in row.documents]
            for row in await session.execute(documents)
        }
        for row in await session.execute(results.order_by(ToolCall.id)):
            said.setdefault((row.run_id, row.tool), []).append(_said(row.result))
    for (run_id, tool), parts in said.items():
        texts.setdefault(run_id, []).append(_Text("tool", tool, "\n".join(parts)))
    return texts


def _said(result: Any) -> str:
    """What of a recorded result the model reads, as text."""
    return _lines(result.get("value", result.get("refused")) if isinstance(result, Mapping) else result)


def _lines(value: Any) -> str:
    # No JSON, whose escapes would keep a passage of an argument from being found.
    match value:
        case str():
            return value
        case Mapping():
            return "\n".join(f"{name}: {_lines(item)}" for name, item in value.items())
        case list():
            return "\n".join(map(_lines, value))
    return json.dumps(value)


def _sources(approval: Approval, texts: Sequence[_Text]) -> tuple[UntrustedSource, ...]:
    passages = Passages(approval.arguments)
    return tuple(_source(each, passages) for each in texts)


def _source(source: _Text, passages: Passages) -> UntrustedSource:
    read = plain(source.text)
    at = dict.fromkeys(passages.places(plain(source.name)), 0) if source.kind == "document" else {}
    at |= passages.places(read)
    shown = " ".join(escaped(source.text).split())
    place = min(at.values(), default=0)
    if shown != read:
        place = _place_as_shown(source.text, read[:place])
    return UntrustedSource(
        source.kind, escaped(source.name), _cut(shown, place), tuple(sorted(at)), has_hidden(source.text)
    )


def _place_as_shown(text: str, before: str) -> int:
    """Where the escaped text, with every space as one, has as much behind it that is seen as `before` has."""
    seen = _seen(before)
    for at, (char, hidden) in enumerate(zip(text, hidden_in(text), strict=True)):
        seen -= 0 if hidden else _seen(char)
        if seen < 0:
            return len(" ".join(escaped(text[:at]).split()))
    return 0


def _seen(text: str) -> int:
    """How many letters and signs are seen, however they are composed: an accent is a part of its letter."""
    letters = text if text.isascii() else unicodedata.normalize("NFD", text)
    return sum(not (char.isspace() or unicodedata.combining(char)) for char in letters)


def _cut(text: str, place: int) -> str:
    start = max(0, place - BEFORE_MATCH)
    end = start + EXCERPT
    return f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"
