"""How the offline model fills a JSON schema: from the task, the documents and the tools' results."""

import json
import re
from dataclasses import dataclass
from typing import Any

_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_URL = re.compile(r"https?://[^\s<>\"')]+")
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


def fill(schema: dict[str, Any], facts: Facts) -> dict[str, Any]:
    """Values for an object schema: all required properties, and optional ones the facts speak of."""
    definitions = schema.get("$defs", {})
    filled = {}
    for name, raw in schema.get("properties", {}).items():
        sub = _resolved(raw, definitions)
        value = _value(name, sub, facts, definitions)
        if value is not None:
            filled[name] = value
        elif name in schema.get("required", []):
            filled[name] = _guess(sub, facts)
    return filled


def _resolved(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        target: dict[str, Any] = definitions[schema["$ref"].rsplit("/", 1)[-1]]
        return target
    options = [s for s in schema.get("anyOf", []) if s.get("type") != "null"]
    return _resolved(options[0], definitions) if options else schema


def _value(name: str, schema: dict[str, Any], facts: Facts, definitions: dict[str, Any]) -> Any:
    if "enum" in schema:
        text = facts.everything.lower()
        return next((option for option in schema["enum"] if str(option).lower() in text), None)
    match schema.get("type"):
        case "string":
            return _text(name, schema, facts)
        case "array":
            return _items(name, facts)
        case "object" if "properties" in schema:
            return fill({**schema, "$defs": definitions}, facts)
        case "integer" | "number":
            number = re.search(r"\b\d{1,6}\b", facts.task) if name not in {"limit", "offset"} else None
            return int(number[0]) if number else None
    return None


def _text(name: str, schema: dict[str, Any], facts: Facts) -> str | None:
    limit = schema.get("maxLength", 4_000)
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


def _guess(schema: dict[str, Any], facts: Facts) -> Any:
    """For a required text of any other name: what follows the task's colon ("Add a note: buy milk"), or the title."""
    if schema.get("type") == "string" and not {"pattern", "enum", "format"} & set(schema):
        return (facts.task.partition(":")[2].strip() or facts.title())[: schema.get("maxLength", 4_000)]
    return _least(schema)


def _least(schema: dict[str, Any]) -> Any:
    """The smallest value a schema accepts, for a required property the facts are silent about."""
    if "enum" in schema:
        return schema["enum"][0]
    least: dict[str, Any] = {
        "string": "x" * max(1, schema.get("minLength", 1)),
        "integer": schema.get("minimum", 0),
        "number": schema.get("minimum", 0),
        "boolean": False,
        "array": [],
        "object": {},
    }
    return least.get(schema.get("type", "string"))


def _short(result: Any) -> str:
    text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, default=str)
    return text if len(text) <= 300 else text[:300] + "…"
