"""What we rely on in the durable engine beyond its documented interface."""

import inspect
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from dbos import DBOS
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart

from app.errors import AppError, BudgetExceeded, Unexpected
from app.runs.liveness import FileLocks, Liveness
from app.runs.serializer import JsonSerializer


def test_the_one_private_call_still_takes_a_list_of_executors() -> None:
    assert version("dbos").startswith("3.4.")
    parameters = list(inspect.signature(DBOS._recover_pending_workflows).parameters)
    assert parameters[0] == "executor_ids"


def test_a_worker_takes_the_lowest_free_slot_and_gives_it_back(tmp_path: Path) -> None:
    first, second = Liveness(FileLocks(tmp_path)), Liveness(FileLocks(tmp_path))
    assert (first.identity, second.identity) == ("worker-0", "worker-1")
    first.stop()
    assert Liveness(FileLocks(tmp_path)).identity == "worker-0"


def test_records_are_json_and_model_responses_and_errors_survive() -> None:
    serializer = JsonSerializer()
    response = ModelResponse(parts=[TextPart("hello")], model_name="m")
    assert serializer.deserialize(serializer.serialize({"r": response})) == {"r": response}
    stored = serializer.serialize(BudgetExceeded("tenant", "tomorrow"))
    assert json.loads(stored)
    error = serializer.deserialize(stored)
    assert isinstance(error, AppError)
    assert (error.row.code, error.detail) == ("budget.exceeded", BudgetExceeded("tenant", "tomorrow").detail)


def test_a_foreign_exception_is_stored_without_its_text() -> None:
    stored = JsonSerializer().serialize(ValueError("secret words"))
    assert "secret" not in stored
    assert isinstance(JsonSerializer().deserialize(stored), Unexpected)


def test_what_is_not_json_is_refused_rather_than_pickled() -> None:
    with pytest.raises(TypeError, match="not JSON"):
        JsonSerializer().serialize(object())


@pytest.mark.parametrize(
    "argument",
    [
        {"__app_error__": ["budget.exceeded", "tomorrow"]},
        {"__app_error__": "of another shape"},
        {"__model_response__": {"parts": []}},
        {"__data__": {"__data__": 1}},
        {"__data__": {"__app_error__": ["a", "b"]}},
        {"__app_error__": ["a", "b"], "text": "beside it"},
    ],
)
def test_data_that_looks_like_a_record_of_ours_comes_back_as_data(argument: dict[str, Any]) -> None:
    serializer = JsonSerializer()
    call = ToolCallPart("open_ticket", {"title": argument})
    data = {"arguments": [argument, {"deep": argument}], "response": ModelResponse(parts=[call], model_name="m")}
    assert serializer.deserialize(serializer.serialize(data)) == data
