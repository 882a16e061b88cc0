"""What happens to each field of a chat request: declared beside the field, followed by the code, printed on a page.

docs/chat-fields.md is made of these declarations, so the page cannot say what the code does not do.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

KINDS = ("role", "type")  # fields whose value says which object this is


class Fate(StrEnum):
    PASSED = "passed on"
    READ = "used here"  # the provider gets what this service makes of it
    TRANSLATED = "translated"
    DROPPED = "dropped"
    REFUSED = "refused"


@dataclass(frozen=True)
class Handling:
    """Annotates a field. One that is refused takes nothing but null, and says why."""

    fate: Fate
    why: str = ""
    whole: bool = False  # with whatever is in it

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        return core_schema.no_info_before_validator_function(self._refuse, schema) if self.is_refused else schema

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        told = handler(schema)
        return {**told, "description": f"{self.fate}: {self.why}"} if self.why else told

    @property
    def is_refused(self) -> bool:
        return self.fate is Fate.REFUSED

    def _refuse(self, value: Any) -> Any:
        if value is not None:
            raise ValueError(self.why)
        return value


@dataclass(frozen=True)
class Refusing:
    """Annotates a field some of whose values are refused, each with a sentence: by themselves, or by their `type`."""

    reasons: Mapping[str, str] = field(hash=False)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._check, handler(source))

    def _check(self, value: Any) -> Any:
        for each in value if isinstance(value, list) else [value]:
            kind = each.get("type") if isinstance(each, dict) else each
            if isinstance(kind, str) and kind in self.reasons:
                raise ValueError(self.reasons[kind])
        return value


PASSED = Handling(Fate.PASSED)


def read(why: str) -> Handling:
    return Handling(Fate.READ, why)


def translated(why: str) -> Handling:
    return Handling(Fate.TRANSLATED, why, whole=True)


def dropped(why: str) -> Handling:
    return Handling(Fate.DROPPED, why, whole=True)


def refused(why: str) -> Handling:
    return Handling(Fate.REFUSED, why, whole=True)


def handling(info: FieldInfo) -> Handling:
    """Raises TypeError for a field that does not say what happens to it."""
    for each in info.metadata:
        if isinstance(each, Handling):
            return each
    raise TypeError(f"a field of {info.annotation} does not say what happens to it: annotate it, as with PASSED")


def fields_with(fate: Fate, model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(name for name, info in model.model_fields.items() if name not in KINDS and handling(info).fate is fate)


def fates(model: type[BaseModel], within: str = "") -> Iterator[tuple[str, Handling]]:
    """Every field, of any depth, by its path; `[…]` in a path is the kind of an object, or a value."""
    for name, info in model.model_fields.items():
        if name in KINDS:
            continue
        path, handled = f"{within}{name}", handling(info)
        yield path, handled
        for refusing in (each for each in info.metadata if isinstance(each, Refusing)):
            yield from ((f"{path}[{value}]", refused(why)) for value, why in refusing.reasons.items())
        if not handled.whole:
            for inner in _models(info.annotation):
                for kind in kinds_of(inner.model_fields):
                    if kind:
                        yield f"{path}[{kind}]", handled
                    yield from fates(inner, f"{path}[{kind}]." if kind else f"{path}.")


def kinds_of(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The values that tell an object from others in its place; one empty name where none do."""
    for name in KINDS:
        hint = getattr(fields.get(name), "annotation", fields.get(name))
        if get_origin(hint) is Literal:
            return get_args(hint)
    return ("",)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    else:
        for each in get_args(annotation):
            yield from _models(each)
