"""Functions as they were before there were tools, by OpenAI's own client: the provider knows only tools."""

from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest

from app.api.chat_functions import FunctionCalls
from gates.rig.chats import PATH
from gates.rig.databases import NewDatabase
from gates.rig.formats import Reply
from gates.rig.people import Person
from gates.rig.plain_http import PLAIN
from gates.rig.provider import calls, says
from gates.rig.world import World, opened

FUNCTION: Any = {"name": "note", "description": "Writes it down.", "parameters": {"type": "object"}}
MAIL = "ada@example.com"


@pytest.fixture(scope="module")
def world(new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with opened(new_sqlite(), tmp_path_factory.mktemp("functions")) as made:
        yield made


@pytest.fixture(scope="module")
def who(world: World) -> Person:
    return world.people(["probe_chatter"])[0]


@pytest.fixture(scope="module")
def client(world: World, who: Person) -> Iterator[openai.OpenAI]:
    with httpx2.Client(**PLAIN) as plain:
        yield openai.OpenAI(base_url=f"{world.service.base_url}/v1", api_key=who.key, max_retries=0, http_client=plain)


def _read(answer: Any, *, stream: bool) -> tuple[dict[str, Any], list[str]]:
    """The message that a client makes of an answer, and how it ended."""
    if not stream:
        choice = answer.choices[0]
        return choice.message.to_dict(), [choice.finish_reason]
    name, arguments, ends = "", "", []
    for piece in answer:
        for choice in piece.choices:
            assert choice.delta.tool_calls is None
            if called := choice.delta.function_call:
                name, arguments = name + (called.name or ""), arguments + (called.arguments or "")
            ends += [choice.finish_reason] if choice.finish_reason else []
    return {"role": "assistant", "content": None, "function_call": {"name": name, "arguments": arguments}}, ends


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_of_functions_calls_one_and_goes_on(world: World, client: openai.OpenAI, stream: bool) -> None:
    script = world.model.script(calls("note", {"to": "[email-1]"}), says("Written."))
    messages: list[Any] = [{"role": "user", "content": script.task(f"Write to {MAIL}.")}]
    asked: dict[str, Any] = {"model": "standard", "messages": messages, "functions": [FUNCTION], "stream": stream}
    message, ends = _read(client.chat.completions.create(function_call={"name": "note"}, **asked), stream=stream)
    assert message["function_call"]["name"] == "note"
    assert MAIL in message["function_call"]["arguments"]
    assert "tool_calls" not in message
    assert ends == ["function_call"]
    messages += [message, {"role": "function", "name": "note", "content": "done"}]
    client.chat.completions.create(function_call="auto", **asked)
    first, second = script.requests
    assert first["tools"] == [{"type": "function", "function": FUNCTION}]
    assert first["tool_choice"] == {"type": "function", "function": {"name": "note"}}
    assert second["tool_choice"] == "auto"
    assert not {"functions", "function_call"} & {*first, *second}
    [call] = second["messages"][1]["tool_calls"]
    assert call["function"]["name"] == "note"
    assert second["messages"][1].keys() == {"role", "tool_calls"}
    assert second["messages"][2] == {"role": "tool", "tool_call_id": call["id"], "content": "done"}


@pytest.mark.parametrize("stream", [False, True])
def test_it_gets_the_first_of_several_calls(world: World, client: openai.OpenAI, stream: bool) -> None:
    several = Reply(calls=(("a", "note", '{"n": 1}'), ("b", "note", '{"n": 2}')))
    script = world.model.script(several)
    answer = client.chat.completions.create(
        model="standard", messages=[{"role": "user", "content": script.task()}], functions=[FUNCTION], stream=stream
    )  # fmt: skip
    assert _read(answer, stream=stream)[0]["function_call"] == {"name": "note", "arguments": '{"n": 1}'}


def test_each_choice_has_its_own_first_call() -> None:
    def piece(choice: int, call: int) -> dict[str, Any]:
        called = {"index": call, "function": {"arguments": f"{choice}{call}"}}
        return {"choices": [{"index": choice, "delta": {"tool_calls": [called]}, "finish_reason": None}]}

    functions = FunctionCalls()
    told = [functions.told(piece(*each))["choices"][0]["delta"] for each in ((0, 0), (1, 1), (0, 1), (1, 1))]
    assert [each.get("function_call", {}).get("arguments") for each in told] == ["00", "11", None, "11"]


def test_an_answer_without_a_call_is_told_as_it_is(world: World, client: openai.OpenAI) -> None:
    script = world.model.script(says("No need."))
    messages: Any = [{"role": "user", "content": script.task()}]
    answer = client.chat.completions.create(model="standard", messages=messages, functions=[FUNCTION])
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("No need.", "stop")


CALL = {"role": "assistant", "content": None, "function_call": {"name": "note", "arguments": "{}"}}
RESULT = {"role": "function", "name": "note", "content": "done"}
TOOL = {"type": "function", "function": FUNCTION}
REFUSED: dict[str, tuple[dict[str, Any], list[dict[str, Any]], str, str]] = {
    "tools as well": ({"functions": [FUNCTION], "tools": [TOOL]}, [], "/functions", "not both"),
    "a choice of none": ({"function_call": "auto"}, [], "/function_call", "only with `functions`"),
    "a result of no call": ({}, [RESULT], "/messages/1", "has to follow the message that called it"),
    "a call without a result": ({}, [CALL], "/messages/1", "with the result has to follow"),
    "a call and something else": ({}, [CALL, CALL, RESULT], "/messages/1", "with the result has to follow"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_conversation_of_functions_has_is_refused(world: World, who: Person, name: str) -> None:
    more, messages, pointer, reason = REFUSED[name]
    script = world.model.script(says("Tea."))
    body = {"model": "standard", "messages": [{"role": "user", "content": script.task()}, *messages], **more}
    answer = world.service.call(who, "POST", PATH, json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["param"] == pointer
    assert reason in answer.json()["error"]["message"]
    assert script.seen == []
