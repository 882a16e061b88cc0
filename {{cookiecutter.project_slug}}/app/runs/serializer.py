"""JSON for the durable engine's own records. The engine's default is pickle, which runs code on reading."""

import json
from typing import Any

from dbos import Serializer
from pydantic import TypeAdapter
from pydantic_ai.messages import ModelResponse

from app.errors import AppError, Unexpected

_RESPONSE = TypeAdapter(ModelResponse)
_ERRORS: dict[str, type[AppError]] = {cls.row.code: cls for cls in AppError.__subclasses__()}


class JsonSerializer(Serializer):
    def name(self) -> str:
        return "json"

    def serialize(self, data: Any) -> str:
        return json.dumps(data, default=_encode)

    def deserialize(self, serialized_data: str) -> Any:
        return json.loads(serialized_data, object_hook=_decode)


def _encode(value: Any) -> Any:
    if isinstance(value, ModelResponse):
        return {"__model_response__": json.loads(_RESPONSE.dump_json(value))}
    if isinstance(value, AppError):
        return {"__app_error__": [value.row.code, value.detail]}
    if isinstance(value, BaseException):
        return {"__app_error__": [Unexpected.row.code, f"{type(value).__name__} in an earlier attempt"]}
    raise TypeError(f"not JSON: {type(value).__name__}")


def _decode(data: dict[str, Any]) -> Any:
    if "__model_response__" in data:
        return _RESPONSE.validate_python(data["__model_response__"])
    if "__app_error__" in data:
        code, detail = data["__app_error__"]
        kind = _ERRORS.get(code, Unexpected)
        error = kind.__new__(kind)
        AppError.__init__(error, detail)
        return error
    return data
