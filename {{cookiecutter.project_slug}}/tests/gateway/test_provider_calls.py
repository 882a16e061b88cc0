"""Arguments of a provider's tool calls, whole and in chunks cut anywhere."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.gateway.provider_calls import StreamedArguments
from app.gateway.provider_json import answer_of, chunk_of

NOTHING = [None, "", " ", "null", " null\n", "{}"]


def _whole(function: dict[str, Any]) -> Any:
    message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "a", "type": "function", "function": function}],
    }
    answer = answer_of(json.dumps({"choices": [{"message": message}]}).encode())
    return answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]


@pytest.mark.parametrize("arguments", NOTHING)
def test_no_arguments_are_an_empty_object(arguments: str | None) -> None:
    """fault 40"""
    assert _whole({"name": "f", "arguments": arguments}) == "{}"


def test_arguments_left_out_are_an_empty_object() -> None:
    """fault 40"""
    assert _whole({"name": "f"}) == "{}"


@settings(deadline=None)
@given(
    said=st.sampled_from([*NOTHING, "nul", "nulls", "n", "[null]", '{"a": null}', "nullnull", " 7"]),
    cuts=st.lists(st.integers(0, 12), max_size=4),
    places=st.sampled_from([{}, {"index": 0}, {"index": 3}]),
    choice=st.integers(0, 2),
)
def test_a_stream_says_the_same_wherever_it_is_cut(
    said: str | None, cuts: list[int], places: dict[str, int], choice: int
) -> None:
    """fault 40"""
    text, read = said or "", StreamedArguments()
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces: list[str | None] = [text[a:b] for a, b in itertools.pairwise(edges)]
    sent = [None, *pieces] if said is None or len(pieces) % 2 else pieces
    deltas: list[dict[str, Any]] = [{"tool_calls": [{"id": "a", "function": {"name": "f"}, **places}]}]
    deltas += [{"tool_calls": [{"function": {"arguments": piece}, **places}]} for piece in sent]
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": choice, "delta": delta, "finish_reason": None}]} for delta in deltas
    ]
    chunks.append({"choices": [{"index": choice, "delta": {}, "finish_reason": "tool_calls"}]})
    told = ""
    for chunk in chunks:
        for call in read.chunk(chunk_of(json.dumps(chunk)))["choices"][0]["delta"].get("tool_calls") or ():
            assert isinstance(call["function"]["arguments"], str)
            told += call["function"]["arguments"]
    assert told == ("{}" if said is None or said.strip() in {"", "null"} else said)
