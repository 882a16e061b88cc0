"""JSON Schema's `pattern` by an engine whose time is linear: somebody else's pattern must not keep a process busy.

The engine is Rust's `regex`, by way of pydantic; it has neither look-around nor back-references. Gate: security.
"""

from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Annotated, Any

from pydantic import StringConstraints, TypeAdapter, ValidationError
from pydantic_core import SchemaError as PatternNotLinear

__all__ = ["PatternNotLinear", "is_linear", "linear_checker"]


@cache
def linear_checker() -> Any:
    """The validator of draft 2020-12. It raises PatternNotLinear where it meets a pattern the engine does not know."""
    from jsonschema import Draft202012Validator, validators  # noqa: PLC0415 - few processes read schemas of others

    return validators.extend(Draft202012Validator, {"pattern": _matches})  # type: ignore[no-untyped-call]


def is_linear(pattern: Any) -> bool:
    """Whether the engine knows the pattern; what is no text is none."""
    if isinstance(pattern, str):
        try:
            _engine(pattern)
        except PatternNotLinear:
            return False
    return True


@lru_cache(maxsize=256)
def _engine(pattern: str) -> TypeAdapter[str]:
    return TypeAdapter(Annotated[str, StringConstraints(pattern=pattern)])


def _matches(_validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError as JsonSchemaError  # noqa: PLC0415 - as in linear_checker

    if isinstance(instance, str):
        try:
            _engine(pattern).validate_python(instance)
        except ValidationError:
            yield JsonSchemaError(f"does not match {pattern!r}")
