"""Placeholders that stand for personal data in what a provider is sent, and what they stand for.

A placeholder is numbered by first appearance in the conversation, which only ever grows, so every request of a run says
the same thing the same way (and a provider's prompt cache still fits). Hidden characters never leave, whoever wrote
them. Gate: validation.
"""

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pydantic_core import to_jsonable_python

from app.content.invisible import cleaned
from app.content.personal import KINDS, replaced

_BARE = re.compile(rf"(?:{'|'.join(KINDS)})-\d+")
_PLACEHOLDER = re.compile(rf"\[{_BARE.pattern}\]")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
SHORT_NUMBER = 10**7  # a longer one may be a person's, or a card's
MAX_NAME = 64  # characters that providers take in the name of a function
_NAMES_OF_SCHEMA = ("required", "dependentRequired")


@dataclass
class Placeholders:
    """The personal data of one request, by the placeholder that stands for it."""

    taken: frozenset[str] = frozenset()  # what looks like a placeholder and is the conversation's own text
    originals: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(
        default_factory=dict
    )  # of functions, calls and properties: the original by what is sent
    _names: dict[str, str] = field(default_factory=dict)
    _numbers: Counter[str] = field(default_factory=Counter)

    @classmethod
    def beside(cls, said: str) -> "Placeholders":
        """None yet, and none to come that the conversation itself could have written."""
        return cls(frozenset(_BARE.findall(said)))

    def hide(self, value: Any, label: str = "") -> Any:
        """A copy of a JSON value with every string and number cleaned of hidden characters and of personal data.

        `label` is what the value is called where it stands, which may say what it is."""
        match value:
            case str():
                return replaced(cleaned(value), self._name, label)
            case dict():
                return {self.hide(key): self.hide(item, str(key)) for key, item in value.items()}
            case list() | tuple():
                return [self.hide(item, label) for item in value]
            case None | bool() | bytes():
                return value
            case int() | float() | Decimal():
                return self._hide_number(value, label)
        as_json = to_jsonable_python(value, fallback=str)  # an object of a tool's: its provider would get its JSON
        hidden = self.hide(as_json, label)
        return value if hidden == as_json else hidden

    def hide_name(self, name: str) -> str:
        """An identifier, the same wherever it stands, in the characters that providers take in one."""
        hidden = self.hide(name)
        if hidden == name:
            return name
        known = next((sent for sent, original in self.names.items() if original == name), None)
        if known is None:
            known = _NOT_IN_NAMES.sub("", hidden)[-MAX_NAME:]
            while known in self.names:
                known = f"{known[: MAX_NAME - 8]}-{len(self.names)}"
            self.names[known] = name
        return known

    def hide_schema(self, schema: Any) -> Any:
        """A JSON schema: names of properties are identifiers, and everything else in it is text."""
        match schema:
            case dict():
                return {self.hide_name(key): self._in_schema(key, item) for key, item in schema.items()}
            case list():
                return [self.hide_schema(item) for item in schema]
        return self.hide(schema)

    def show(self, value: Any) -> Any:
        """The reverse, for what the provider wrote."""
        match value:
            case str():
                return _PLACEHOLDER.sub(lambda found: self.originals.get(found[0], found[0]), value)
            case dict():
                return {self.names.get(key) or self.show(key): self.show(item) for key, item in value.items()}
            case list():
                return [self.show(item) for item in value]
        return value

    def show_name(self, name: Any) -> Any:
        return self.names.get(name, name)

    def show_in_json(self, text: str) -> str:
        """The reverse for a part of a JSON document, where what is put in has to be escaped."""
        return _PLACEHOLDER.sub(
            lambda found: json.dumps(self.originals[found[0]])[1:-1] if found[0] in self.originals else found[0], text
        )

    def _in_schema(self, key: str, item: Any) -> Any:
        if key in _NAMES_OF_SCHEMA and isinstance(item, list):
            return [self.hide_name(name) if isinstance(name, str) else self.hide(name) for name in item]
        return self.hide_schema(item)

    def _hide_number(self, value: float | Decimal, label: str) -> Any:
        if not (value > SHORT_NUMBER or value < -SHORT_NUMBER):
            return value
        # A card's number is one also without quotes, and where a library read it as a fraction.
        text = str(int(value)) if value == value // 1 else str(value)
        hidden = replaced(text, self._name, label)
        return value if hidden == text else hidden

    def _name(self, kind: str, value: str) -> str:
        if value not in self._names:
            name = ""
            while not name or name in self.taken:
                self._numbers[kind] += 1
                name = f"{kind}-{self._numbers[kind]}"
            self._names[value], self.originals[f"[{name}]"] = f"[{name}]", value
        return self._names[value]


def changed_arguments(args: Any, change: Callable[[Any], Any]) -> Any:
    """Arguments of a tool call: JSON text is changed as JSON, and what is put in is escaped; other text as it is."""
    if not isinstance(args, str):
        return change(args)
    try:
        read = json.loads(args)
        changed = change(read)
    except (ValueError, RecursionError):
        return change(args)
    return args if changed == read else json.dumps(changed)
