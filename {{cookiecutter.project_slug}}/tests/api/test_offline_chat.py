"""The offline model through the `openai` package: structured output, forced tools, streams, as with a provider."""

import json
from collections.abc import Iterator
from typing import Any, Literal, Optional

import openai
import pytest
from pydantic import BaseModel, Field

from gates.rig.databases import NewDatabase
from gates.rig.service import running


class Step(BaseModel):
    explanation: str
    minutes: int = Field(ge=5)


class Plan(BaseModel):
    title: str
    mood: Literal["calm", "hurried"]
    steps: list[Step] = Field(min_length=2)
    parent: Optional["Plan"]


def _tool(name: str, **fields: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "parameters": parameters, "strict": True}}


WEATHER = _tool("get_current_weather", city={"type": "string"}, unit={"enum": ["celsius", "fahrenheit"]})
BOOK = _tool("book", nights={"type": "integer", "minimum": 1}, when={"type": "string", "format": "date"})


@pytest.fixture(scope="module")
def client(new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    with running(new_sqlite(), tmp_path_factory.mktemp("offline")) as service:
        [who] = service.people(["member"])
        with openai.OpenAI(base_url=f"{service.base_url}/v1", api_key=who.key, max_retries=0) as made:
            yield made


def _said(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_a_parsed_answer_is_the_model_s(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "gpt-4o",
        "messages": _said("In a hurried way, plan a trip."),
        "response_format": Plan,
    }
    plan = client.chat.completions.parse(**asked).choices[0].message.parsed
    assert plan is not None
    assert (plan.mood, len(plan.steps)) == ("hurried", 2)
    with client.chat.completions.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        assert stream.get_final_completion().choices[0].message.parsed == plan
    assert kinds.count("content.delta") > 5


def test_an_object_is_one_and_follows_the_schema_that_the_prompt_shows(client: openai.OpenAI) -> None:
    form: Any = {"type": "json_object"}
    told = client.chat.completions.create(model="gpt-4o", messages=_said("Hello."), response_format=form)
    assert isinstance(json.loads(told.choices[0].message.content or ""), dict)
    prompt = [{"role": "system", "content": f"Answer by this schema: {json.dumps(Step.model_json_schema())} in JSON."}]
    told = client.chat.completions.create(model="gpt-4o", messages=prompt + _said("Hello."), response_format=form)
    Step.model_validate_json(told.choices[0].message.content or "")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "book"}}])
@pytest.mark.parametrize("stream", [False, True])
def test_a_forced_tool_is_called_with_valid_arguments(client: openai.OpenAI, choice: Any, stream: bool) -> None:
    asked: dict[str, Any] = {"model": "gpt-4o", "messages": _said("Hello."), "tools": [BOOK], "tool_choice": choice}
    if stream:
        pieces = list(client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **asked))
        deltas = [call for piece in pieces if piece.choices for call in piece.choices[0].delta.tool_calls or ()]
        first, *rest = deltas
        assert first.id
        assert (first.type, first.function.name, first.function.arguments) == ("function", "book", "")
        assert len(rest) > 1
        assert all(call.id is None and call.function.name is None for call in rest)
        arguments = "".join(call.function.arguments for call in rest)
        assert pieces[-2].choices[0].finish_reason == "tool_calls"
        assert pieces[-1].usage.total_tokens > 0
    else:
        told = client.chat.completions.create(**asked).choices[0]
        assert told.finish_reason == "tool_calls"
        arguments = told.message.tool_calls[0].function.arguments
    assert json.loads(arguments) == {"nights": 1, "when": "2024-01-01"}


def test_of_several_tools_the_one_that_is_spoken_of_is_called_and_no_other_when_left_to_choose(
    client: openai.OpenAI,
) -> None:
    both: dict[str, Any] = {"model": "gpt-4o", "tools": [BOOK, WEATHER]}
    told = client.chat.completions.create(messages=_said("The weather in Paris?"), tool_choice="required", **both)
    assert told.choices[0].message.tool_calls[0].function.name == "get_current_weather"
    told = client.chat.completions.create(messages=_said("Hello."), **both)
    assert told.choices[0].message.tool_calls is None
    told = client.chat.completions.create(messages=_said("Book it."), tool_choice="none", **both)
    assert told.choices[0].message.tool_calls is None


def test_a_conversation_with_tools_ends_with_the_form_that_was_asked_for(client: openai.OpenAI) -> None:
    messages = _said("The weather in Paris?")
    form = {"type": "json_schema", "json_schema": {"name": "step", "schema": Step.model_json_schema()}}
    asked: dict[str, Any] = {"model": "gpt-4o", "tools": [WEATHER], "response_format": form}
    first = client.chat.completions.create(messages=messages, **asked).choices[0].message
    [made] = first.tool_calls
    assert made.function.name == "get_current_weather"
    messages += [first, {"role": "tool", "tool_call_id": made.id, "content": "21 degrees"}]
    said = client.chat.completions.create(messages=messages, **asked).choices[0].message
    assert said.tool_calls is None
    Step.model_validate_json(said.content or "")
    again = [*messages, {"role": "assistant", "content": said.content}, *_said("And the weather in Rome?")]
    [call] = client.chat.completions.create(messages=again, **asked).choices[0].message.tool_calls
    assert call.id != made.id


def test_an_answer_is_as_short_as_asked_for(client: openai.OpenAI) -> None:
    short = client.chat.completions.create(model="gpt-4o", messages=_said("Hello."), max_completion_tokens=3)
    assert short.choices[0].finish_reason == "length"
    assert len(short.choices[0].message.content or "") == 12
    assert short.usage is not None
    assert short.usage.completion_tokens == 3


@pytest.mark.parametrize(
    ("tools", "choice"), [([BOOK], {"type": "function", "function": {"name": "other"}}), (openai.omit, "required")]
)
def test_a_forced_tool_that_is_not_offered_is_refused(client: openai.OpenAI, tools: Any, choice: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="tool_choice"):
        client.chat.completions.create(model="gpt-4o", messages=_said("Hello."), tools=tools, tool_choice=choice)
