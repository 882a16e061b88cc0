"""What a tool server said when somebody reviewed it: descriptions and schemas, pinned in config/servers/<name>.json.

A pin comes from somebody else, so nothing in it may send us anywhere or keep us busy: a schema refers to its own parts
only, and its patterns are matched in linear time. Gate: security.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, RootModel, TypeAdapter, ValidationError, model_validator

from app.content.linear_patterns import is_linear, linear_checker
from app.tools.spec import chosen_destinations


class ToolServersInvalid(Exception):
    """config/tools.toml or a pin cannot be used; the message says which and what to do."""


@dataclass(frozen=True)
class Manifest:
    """What a server says about its tools: by name, the description and the schemas of arguments and result."""

    tools: Mapping[str, Mapping[str, Any]]

    @property
    def digest(self) -> str:
        told = {name: dict(tool) for name, tool in self.tools.items()}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


class Pinned(BaseModel):
    model_config = ConfigDict(extra="forbid")
    description: str
    schema_: dict[str, Any] = Field(alias="schema", serialization_alias="schema")
    result: dict[str, Any]

    def model_dump(self, **_options: Any) -> dict[str, Any]:
        return {"description": self.description, "schema": self.schema_, "result": self.result}


_PINNED: TypeAdapter[dict[str, Pinned]] = TypeAdapter(dict[str, Pinned])


def read_pin(file: Path) -> Manifest:
    """Raises ToolServersInvalid where nobody has reviewed the server yet, or the file is no pin."""
    if not file.exists():
        raise ToolServersInvalid(f"the tools of {file.stem} were not reviewed yet: app tools pin {file.stem}")
    try:
        read = _PINNED.validate_json(file.read_bytes())
    except ValidationError:
        raise ToolServersInvalid(f"{file.name} is no pin: app tools pin {file.stem}") from None
    return Manifest({tool: pinned.model_dump() for tool, pinned in read.items()})


def write_pin(file: Path, manifest: Manifest) -> Path:
    file.parent.mkdir(exist_ok=True)
    # Escaped, so that a description cannot hide characters from who reviews the file.
    file.write_text(json.dumps(manifest.tools, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return file


def open_places(schema: dict[str, Any]) -> list[str]:
    """How a model could choose where a read goes: fields that name a place, or any field at all."""
    return chosen_destinations(schema) or ([] if schema.get("properties") is not None else ["a schema without fields"])


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Every object of a schema, at any depth."""
    if isinstance(schema, dict):
        yield schema
    for item in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _parts(item)


def _require_usable(name: str, schema: dict[str, Any]) -> None:
    """Raise ToolServersInvalid for a schema that refers elsewhere, or whose patterns have no linear time."""
    for part in _parts(schema):
        elsewhere = [str(part[key]) for key in ("$ref", "$dynamicRef") if not str(part.get(key, "#")).startswith("#")]
        if elsewhere:
            raise ToolServersInvalid(f"{name}: its schema refers to {elsewhere[0]!r}; only its own parts may be")
        if "patternProperties" in part or not is_linear(part.get("pattern")):
            raise ToolServersInvalid(f"{name}: its schema has a pattern that is not supported")


def arguments_of(name: str, schema: dict[str, Any]) -> type[BaseModel]:
    """The pinned JSON Schema as an argument type; a field it does not name is refused.

    Raises ToolServersInvalid."""
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - only a process with tool servers needs it
    from jsonschema.exceptions import SchemaError  # noqa: PLC0415
    from referencing import Registry  # noqa: PLC0415
    from referencing.exceptions import Unresolvable  # noqa: PLC0415

    closed = {**schema, "additionalProperties": False} if schema.get("properties") is not None else schema
    _require_usable(name, closed)
    try:
        Draft202012Validator.check_schema(closed)
    except SchemaError as error:
        raise ToolServersInvalid(f"{name}: its schema is not valid: {error.message}") from None
    checker = linear_checker()(closed, registry=Registry())  # an empty registry: nothing is fetched

    class Arguments(RootModel[dict[str, Any]]):
        @model_validator(mode="after")
        def _fits(self) -> "Arguments":
            try:
                problem = next(iter(checker.iter_errors(self.root)), None)
            except (RecursionError, Unresolvable):
                raise ValueError("the arguments cannot be checked") from None
            if problem is not None:
                raise ValueError(f"{problem.json_path}: {problem.message[:200]}")
            return self

        @classmethod
        def model_json_schema(cls, *_args: Any, **_options: Any) -> dict[str, Any]:
            return closed

    return Arguments
