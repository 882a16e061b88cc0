"""JSON for the durable engine's own records. The engine's default is pickle, which runs code on reading."""

import json
from enum import StrEnum
from typing import Any

import structlog
from dbos import Serializer
from pydantic import TypeAdapter
from pydantic_ai.messages import ModelResponse

from app.errors import AppError, Unexpected

log = structlog.get_logger(__name__)
_RESPONSE = TypeAdapter(ModelResponse)
_ERRORS: dict[str, type[AppError]] = {cls.row.code: cls for cls in AppError.__subclasses__()}


class Mark(StrEnum):
    """The one name in an object that stands for something else."""

    DATA = "__data__"
    MODEL_RESPONSE = "__model_response__"
    APP_ERROR = "__app_error__"


class JsonSerializer(Serializer):
    """What is not JSON is spelled as an object with one key, a mark; data that looks the same is marked itself.

    A caller or a model chooses the names in tools' arguments: they must come back as data, never as an error."""

    def name(self) -> str:
        return "json"

    def serialize(self, data: Any) -> str:
        return json.dumps(_encoded(data))

    def deserialize(self, serialized_data: str) -> Any:
        return _decoded(json.loads(serialized_data))


def _encoded(value: Any) -> Any:
    match value:
        case dict():
            items = {name: _encoded(item) for name, item in value.items()}
            return {Mark.DATA: items} if len(items) == 1 and not items.keys().isdisjoint(Mark) else items
        case list() | tuple():
            return [_encoded(item) for item in value]
        case ModelResponse():
            return {Mark.MODEL_RESPONSE: json.loads(_RESPONSE.dump_json(value))}
        case AppError():
            return {Mark.APP_ERROR: [value.row.code, value.detail]}
        case BaseException():
            log.warning("run.step_failed", error=type(value).__name__)  # its own text may hold what somebody sent
            return {Mark.APP_ERROR: [Unexpected.row.code, Unexpected.row.title]}
        case str() | int() | float() | None:
            return value
    raise TypeError(f"not JSON: {type(value).__name__}")


def _decoded(value: Any) -> Any:
    # From the outside inwards: what stands inside a marked object is that kind's own, whatever it looks like.
    match value:
        case {Mark.DATA: dict(items)} if len(value) == 1:
            return {name: _decoded(item) for name, item in items.items()}
        case {Mark.MODEL_RESPONSE: response} if len(value) == 1:
            return _RESPONSE.validate_python(response)
        case {Mark.APP_ERROR: [code, detail]} if len(value) == 1:
            return _error(code, detail)
        case dict():
            return {name: _decoded(item) for name, item in value.items()}
        case list():
            return [_decoded(item) for item in value]
    return value


def _error(code: str, detail: str) -> AppError:
    kind = _ERRORS.get(code, Unexpected)
    error = kind.__new__(kind)
    AppError.__init__(error, detail)
    return error
