"""How the offline model fills a JSON schema: from the task, the documents and the tools' results."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from app.gateway.offline_merging import kinds
from app.gateway.offline_scalars import Schema, whole
from app.gateway.offline_schema import instance

_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_URL = re.compile(r"https?://[^\s<>\"')]+")
_NUMBER = re.compile(r"\b\d{1,6}\b")
_PLACEHOLDER = re.compile(r"\[[a-z]+-\d+\]")  # stands for personal data, which a model never sees
_WRITTEN_AS = {"date": re.compile(r"\b\d{4}-\d\d-\d\d\b"), "email": re.compile(r"\[email-\d+\]"), "uuid": _UUID}
_WORD = re.compile(r"[A-Za-z][A-Za-z-]{3,}")
_STOP = frozenset(
    """
    about after again also and before check create delete describe described document documents does
    existing file find for from have into look notify open please problem raise read search send should
    tell that the their them then there these they this ticket tickets what when where which with would
    your
    """.split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Facts:
    task: str
    documents: tuple[tuple[str, str], ...]
    results: tuple[tuple[str, Any], ...]

    @property
    def everything(self) -> str:
        return "\n".join([self.task, *(text for _, text in self.documents), json.dumps(self.results, default=str)])

    def keywords(self, count: int = 3) -> str:
        words = [w for w in _WORD.findall(self.task) if w.lower() not in _STOP]
        words += [w for _, text in self.documents for w in _WORD.findall(text) if w.lower() not in _STOP]
        return " ".join(dict.fromkeys(words[:count])) or self.task[:40]

    def title(self) -> str:
        text = self.documents[0][1] if self.documents else self.task
        return re.split(r"[.\n]", text.strip())[0].strip()[:80] or "Untitled"

    def details(self) -> str:
        parts = [f"{name}: {' '.join(text.split())[:240]}" for name, text in self.documents]
        return "\n".join(parts) or self.task

    def summary(self) -> str:
        lines = ["Offline demonstration answer; no language model was asked."]
        lines += [f"{tool}: {_short(result)}" for tool, result in self.results]
        if self.documents:
            lines.append(f"Read {len(self.documents)} document(s): {', '.join(name for name, _ in self.documents)}.")
        return "\n".join(lines)


def fill(schema: Schema, facts: Facts) -> dict[str, Any]:
    """Values for an object schema: all required properties, and optional ones the facts speak of."""
    made = fitting({"type": "object", **schema}, facts)
    return made if isinstance(made, dict) else {}


def fitting(schema: Schema, facts: Facts) -> Any:
    """A value of the schema: what the facts say where it fits, the smallest otherwise."""
    return instance(schema, partial(_suggested, facts))


def _suggested(facts: Facts, name: str, schema: Schema, required: bool) -> Iterator[Any]:
    """What the facts, or the schema's own words, offer for a property. Whether it fits is seen later."""
    if isinstance(schema.get("enum"), list):
        text = facts.everything.lower()
        yield from (option for option in schema["enum"] if str(option).lower() in text)
        return
    kind = next(kinds(schema), None)
    if (value := _of_kind(kind, name, schema, facts)) is not None:
        yield value
    if required:
        yield from [schema["default"]] if "default" in schema else []
        yield from examples if isinstance(examples := schema.get("examples"), list) else []
    if required and kind == "string" and not {"pattern", "format", "contentSchema"} & schema.keys():
        # What follows the task's colon ("Add a note: buy milk"), or the title.
        yield (facts.task.partition(":")[2].strip() or facts.title())[: whole(schema, "maxLength", 4_000)]


def _of_kind(kind: str | None, name: str, schema: Schema, facts: Facts) -> Any:
    match kind:
        case "string":
            form = schema.get("format") or ("email" if "email" in name.lower() else "")
            return _written_as(str(form), facts) or _text(name, schema, facts)
        case "array":
            return _items(name, facts)
        case "integer" | "number" if name not in {"limit", "offset"}:
            number = _NUMBER.search(_PLACEHOLDER.sub("", facts.task))
            return int(number[0]) if number else None
    return None


def _written_as(form: str, facts: Facts) -> str | None:
    pattern = _WRITTEN_AS.get(form)
    found = pattern.search(facts.task) if pattern else None
    return found[0] if found else None


def _text(name: str, schema: Schema, facts: Facts) -> str | None:
    limit = whole(schema, "maxLength", 4_000)
    if name.endswith("id"):
        found = _UUID.search(facts.task) or _UUID.search(facts.everything)
        return found[0] if found else None
    if name in {"url", "destination", "webhook"}:
        found = _URL.search(facts.task)  # a destination comes from the user, never from a document
        return found[0].rstrip(".,;") if found else None
    by_name = {
        "query": facts.keywords,
        "title": facts.title,
        "subject": facts.title,
        "body": facts.details,
        "message": facts.title,
        "description": facts.details,
        "answer": facts.summary,
        "summary": facts.summary,
    }
    return by_name[name]()[:limit] if name in by_name else None


def _items(name: str, facts: Facts) -> list[str] | None:
    if name == "sources":
        return [document for document, _ in facts.documents]
    if name.endswith("ids"):
        found = _UUID.findall(json.dumps(facts.results, default=str))
        return list(dict.fromkeys(found))[:20]
    return None


def _short(result: Any) -> str:
    text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, default=str)
    return text if len(text) <= 300 else text[:300] + "…"
