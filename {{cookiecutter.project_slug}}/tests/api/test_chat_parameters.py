"""The parameters of a chat request: what the provider gets of each, and in which words the others are refused."""

from collections.abc import Iterator
from typing import Any

import pytest

from gates.rig.chats import PATH, TOOL
from gates.rig.databases import NewDatabase
from gates.rig.people import Person
from gates.rig.provider import says
from gates.rig.world import World, opened

ALWAYS = {"model", "messages", "max_completion_tokens"}


@pytest.fixture(scope="module")
def world(new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with opened(new_sqlite(), tmp_path_factory.mktemp("parameters")) as made:
        yield made


@pytest.fixture(scope="module")
def who(world: World) -> Person:
    return world.people(["probe_chatter"])[0]


DROPPED: dict[str, list[Any]] = {
    "user": ["u-1", None],
    "safety_identifier": ["s" * 128],
    "store": [False, True, None],
    "metadata": [{"k" * 64: "v" * 512}, {}, None],
    "prompt_cache_key": ["a"],
    "prompt_cache_retention": ["24h", "in_memory"],
    "prompt_cache_options": [{"mode": "implicit"}],
    "prediction": [{"type": "content", "content": "x"}, {"type": "content", "content": [{"type": "text"}]}],
    "service_tier": ["auto", "default", None],
    "modalities": [["text"], [], None],
    "audio": [None],
    "web_search_options": [None],
    "moderation": [None],
    "tools": [[], None],
    "functions": [[], None],
    "function_call": [None],
    "stream_options": [{"include_usage": None, "include_obfuscation": True}, None],
    "n": [1, 1.0, None],
    "temperature": [None],
    "stop": [None],
    "response_format": [None],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in DROPPED.items() for value in values])
def test_what_is_sent_by_habit_is_taken_and_not_passed_on(world: World, who: Person, name: str, value: Any) -> None:
    script = world.model.script(says("Tea."))
    body = {"model": "standard", "messages": [{"role": "user", "content": script.task()}], name: value}
    answer = world.service.call(who, "POST", PATH, json=body)
    assert answer.status_code == 200, answer.text
    assert script.requests[0].keys() == ALWAYS


ALLOWED = {
    "type": "allowed_tools",
    "allowed_tools": {"mode": "auto", "tools": [{**TOOL, "function": {"name": "note"}}]},
}
PASSED: dict[str, list[Any]] = {
    "n": [16],
    "temperature": [1, 0.5],
    "top_p": [1],
    "frequency_penalty": [-2],
    "presence_penalty": [2.0],
    "logit_bias": [{"50256": -100, "1": 0.5}],
    "logprobs": [True],
    "top_logprobs": [20],
    "stop": ["a", ["a", "b"]],
    "seed": [7],
    "reasoning_effort": ["none", "minimal", "low", "medium", "high", "xhigh", "max"],
    "verbosity": ["low"],
    "parallel_tool_calls": [False],
    "tool_choice": ["required", ALLOWED],
    "response_format": [{"type": "json_object"}, {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in PASSED.items() for value in values])
def test_what_a_model_reads_is_passed_on_as_it_is(world: World, who: Person, name: str, value: Any) -> None:
    script = world.model.script(says("Tea."))
    messages = [{"role": "user", "content": script.task()}]
    body = {"model": "standard", "messages": messages, "tools": [TOOL], name: value}
    answer = world.service.call(who, "POST", PATH, json=body)
    assert answer.status_code == 200, answer.text
    assert script.requests[0][name] == value


CUSTOM = {"type": "custom", "custom": {"name": "x"}}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "/service_tier": ({"service_tier": "flex"}, "only the standard service"),
    "/modalities": ({"modalities": ["text", "audio"]}, "audio is not given"),
    "/audio": ({"audio": {"voice": "x", "format": "mp3"}}, "audio is not given"),
    "/web_search_options": ({"web_search_options": {}}, "searches are not offered"),
    "/moderation": ({"moderation": {"model": "x"}}, "moderation is not offered"),
    "/tools": ({"tools": [TOOL, CUSTOM]}, "custom tools are not taken"),
    "/tool_choice": ({"tools": [TOOL], "tool_choice": CUSTOM}, "custom tools are not taken"),
    "/top_k": ({"top_k": 5}, "Extra inputs are not permitted"),
    "/extra_body": ({"extra_body": {"top_k": 5}}, "Extra inputs are not permitted"),
    "/metadata": ({"metadata": {f"k{n}": "v" for n in range(17)}}, "at most 16 items"),
    "/metadata/k": ({"metadata": {"k": "v" * 513}}, "at most 512 characters"),
    "/n": ({"n": 17}, "less than or equal to 16"),
    "/logit_bias/1": ({"logit_bias": {"1": 101}}, "less than or equal to 100"),
    "/tools/0/function/name": ({"tools": [{**TOOL, "function": {}}]}, "Field required"),
}  # fmt: skip


@pytest.mark.parametrize("pointer", REFUSED)
def test_what_is_refused_is_named_once_with_the_reason(world: World, who: Person, pointer: str) -> None:
    change, reason = REFUSED[pointer]
    script = world.model.script(says("Tea."))
    body = {"model": "standard", "messages": [{"role": "user", "content": script.task()}], **change}
    answer = world.service.call(who, "POST", PATH, json=body)
    assert answer.status_code == 422, answer.text
    error = answer.json()["error"]
    assert error["param"] == pointer
    assert error["message"].removeprefix("Some fields are not valid. ").startswith(f"{pointer}: ")
    assert reason in error["message"]
    assert error["message"].count("/") == pointer.count("/")
    assert script.seen == []
