"""What the Responses interface does not take, and how it is told."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from gates.rig.databases import NewDatabase
from gates.rig.formats import Reply
from gates.rig.provider import fault, says
from gates.rig.world import World, opened
from tests.api.responses_desk import CATALOGUE, TOOL, Desk, desk_in


@pytest.fixture(scope="module")
def world(new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with opened(new_sqlite(), tmp_path_factory.mktemp("responses"), catalogue=CATALOGUE) as made:
        yield made


@pytest.fixture
def desk(world: World) -> Iterator[Desk]:
    with desk_in(world) as made:
        yield made


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an answer before": ({"previous_response_id": "resp_1"}, "/previous_response_id"),
    "a conversation": ({"conversation": {"id": "conv_1"}}, "/conversation"),
    "the background": ({"background": True}, "/background"),
    "the background by a number": ({"background": 0}, "/background"),
    "a stored prompt": ({"prompt": {"id": "pmpt_1"}}, "/prompt"),
    "a stored item": ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "/input/0"),
    "an item of a hosted tool": ({"input": [{"type": "web_search_call", "id": "ws_1"}]}, "/input/0"),
    "hosted calls": ({"max_tool_calls": 3}, "/max_tool_calls"),
    "a hosted choice": ({"tool_choice": {"type": "web_search"}}, "/tool_choice"),
    "a hosted tool's results": ({"include": ["file_search_call.results"]}, "/include/0"),
    "faster service": ({"service_tier": "priority"}, "/service_tier"),
    "an unknown field": ({"modes": 1}, "/modes"),
    "no input": ({"input": []}, "/input"),
    "reasoning alone": ({"input": [{"type": "reasoning", "id": "rs_1"}]}, "/input"),
    "a picture": (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "/input/0/content/0",
    ),
    "a file": (
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}]}, "/input/0/content/0",
    ),
    "a picture as a result": (
        {"input": [{"type": "function_call_output", "call_id": "a", "output": [{"type": "input_image"}]}]},
        "/input/0/output/0",
    ),
    "NUL": ({"input": [{"role": "user", "content": "a\0b"}]}, "/input/0/content"),
    **{
        f"the tool {kind}": ({"tools": [TOOL, {"type": kind}]}, "/tools/1")
        for kind in ("web_search", "file_search", "computer_use_preview", "code_interpreter", "mcp", "image_generation",
                     "local_shell", "custom")
    },
}  # fmt: skip


SAID_BY_THEIR_VALUES = {"a hosted tool's results", "faster service"}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_taken_is_named_in_one_sentence(desk: Desk, name: str) -> None:
    change, where = REFUSED[name]
    before = len(desk.world.model.ledger)
    answer = desk.post({"input": "x", **change})
    assert answer.status_code == 422, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("request.invalid", where)
    assert error["message"].count(where) == 1
    assert ("Input should be" in error["message"]) == (name in SAID_BY_THEIR_VALUES)
    assert len(desk.world.model.ledger) == before


def test_what_says_nothing_is_as_if_left_out(desk: Desk) -> None:
    names = (
        "previous_response_id", "conversation", "prompt", "background", "max_tool_calls", "tools", "text", "reasoning",
        "instructions", "include", "metadata", "store", "stream", "temperature", "truncation", "tool_choice",
    )  # fmt: skip
    response, script = desk.whole(says("Yes."), **dict.fromkeys(names))
    assert response["output"]
    assert script.requests[0].keys() == {"messages", "max_completion_tokens", "model"}


def test_an_error_before_the_first_event_has_its_own_status(desk: Desk) -> None:
    for stream in (False, True):
        script = desk.script(fault("hang", seconds=8), says("x"))
        with pytest.raises(openai.NotFoundError, match="choose from"):
            desk.client.responses.create(model="gpt-9", input=script.task(), stream=stream)
        answer = desk.post({"input": desk.script(Reply(raw=b"<html>")).task(), "stream": stream})
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "model.output_invalid")
