"""Whatever JSON a provider sends ends as an answer that can be written, or as a typed error."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai.exceptions import UnexpectedModelBehavior
from pydantic_ai.usage import RequestUsage

from app.gateway.provider_json import answer_of, chunk_of, dearer, usage_of

SURROGATES = st.sampled_from(["\ud83d", "\ude00", "\ud83d\ude00", "é", "x"])
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), SURROGATES, st.just(float("inf"))
)
ANYTHING = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))


def _perhaps(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object of the interface in which each field is right, missing, or anything."""
    return st.fixed_dictionaries({}, optional={name: field | ANYTHING for name, field in fields.items()})


CALL = _perhaps(
    index=st.integers(0, 3), id=st.text(max_size=4), type=st.just("function"),
    function=_perhaps(name=st.text(max_size=4), arguments=st.text(max_size=6)),
)  # fmt: skip
SAID = _perhaps(role=st.just("assistant"), content=SURROGATES, refusal=st.none(), tool_calls=st.lists(CALL, max_size=2))
CHOICE = _perhaps(index=st.integers(0, 3), message=SAID, delta=SAID, finish_reason=st.just("stop"), logprobs=ANYTHING)
COUNT = st.integers(-5, 10**9)
USAGE = _perhaps(
    prompt_tokens=COUNT, completion_tokens=COUNT, total_tokens=COUNT,
    completion_tokens_details=_perhaps(reasoning_tokens=COUNT),
    prompt_tokens_details=_perhaps(cached_tokens=COUNT, cache_write_tokens=COUNT),
)  # fmt: skip
ANSWER = _perhaps(id=st.text(max_size=3), model=st.text(max_size=3), choices=st.lists(CHOICE, max_size=2), usage=USAGE)


@settings(max_examples=400, deadline=None)
@given(ANSWER | ANYTHING)
def test_what_is_read_can_be_written(sent: Any) -> None:
    """fault 13, 39: drawn from the grammar, not from examples."""
    raw = json.dumps(sent)
    for whole in (True, False):
        try:
            found = answer_of(raw.encode()) if whole else chunk_of(raw)
        except UnexpectedModelBehavior:
            continue
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
        usage = usage_of(found)
        assert usage is None or 0 <= usage.cache_read_tokens + usage.cache_write_tokens <= usage.input_tokens
        for choice in found["choices"]:
            assert isinstance(choice["index"], int)
            assert isinstance(choice["message" if whole else "delta"], dict)


@pytest.mark.parametrize(
    "raw", [b"", b"null", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"choices": []}', b'{"choices": [null]}',
            b'{"choices": [{"message": null}]}', b'{"choices": [{"index": "x", "message": {}}]}',
            b'{"choices": [{"index": true, "message": {}}]}', b'{"choices": [{"message": {"content": 7}}]}'],
)  # fmt: skip
def test_what_is_no_answer_is_one_error(raw: bytes) -> None:
    with pytest.raises(UnexpectedModelBehavior):
        answer_of(raw)


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_a_number_that_json_has_not_is_null(number: str) -> None:
    """fault 13"""
    raw = '{"choices": [{"message": {"content": "a"}, "logprobs": {"content": [{"logprob": NUMBER}]}}]}'
    raw = raw.replace("NUMBER", number)
    assert answer_of(raw.encode())["choices"][0]["logprobs"]["content"] == [{"logprob": None}]


def test_half_a_surrogate_pair_is_replaced_and_a_whole_one_kept() -> None:
    """fault 13"""
    raw = rb'{"choices": [{"message": {"content": "a\ud83d b \ud83d\ude00"}}]}'
    assert answer_of(raw)["choices"][0]["message"]["content"] == "a\ufffd b \U0001f600"


@pytest.mark.parametrize("choice", [{"index": 0, "content_filter_results": {}}, {"index": 0, "delta": None}])
def test_a_chunk_that_says_nothing_is_passed_on(choice: dict[str, Any]) -> None:
    """fault 3, 4"""
    [read] = chunk_of(json.dumps({"choices": [choice], "error": None}))["choices"]
    assert read["delta"] == {}


@pytest.mark.parametrize(
    ("told", "read"),
    [
        ({"prompt_tokens": 21, "completion_tokens": 5}, (21, 5, 0, 0)),
        ({"prompt_tokens": 21, "completion_tokens": 5, "total_tokens": 26}, (21, 5, 0, 0)),
        # fault 1
        (
            {"prompt_tokens": 21, "completion_tokens": 5, "total_tokens": 20_026,
             "completion_tokens_details": {"reasoning_tokens": 20_000}},
            (21, 20_005, 0, 0),
        ),
        ({"prompt_tokens": 21, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 20_000}},
         (21, 20_005, 0, 0)),
        ({"prompt_tokens": 21, "completion_tokens": 5, "completion_tokens_details": {"audio_tokens": 600}},
         (21, 605, 0, 0)),
        ({"prompt_tokens": 21, "completion_tokens": 5, "prompt_tokens_details": {"audio_tokens": 600}},
         (600, 5, 0, 0)),
        ({"prompt_tokens": 21, "completion_tokens": 900, "completion_tokens_details": {"reasoning_tokens": 800}},
         (21, 900, 0, 0)),
        ({"prompt_tokens": 21, "completion_tokens": 5, "total_tokens": 3}, (21, 5, 0, 0)),
        # fault 2
        ({"prompt_tokens": 100, "completion_tokens": 5,
          "prompt_tokens_details": {"cached_tokens": 99}}, (100, 5, 99, 0)),
        ({"prompt_tokens": 100, "completion_tokens": 5,
          "prompt_tokens_details": {"cached_tokens": 101}}, (201, 5, 101, 0)),
        ({"prompt_tokens": 21, "completion_tokens": 5, "total_tokens": 50_026,
          "prompt_tokens_details": {"cached_tokens": 50_000}}, (50_021, 5, 50_000, 0)),
        ({"prompt_tokens": 100, "completion_tokens": 5,
          "prompt_tokens_details": {"cache_write_tokens": 60}},
         (100, 5, 0, 60)),
        ({"prompt_tokens": True, "completion_tokens": 5}, None),
        ({"prompt_tokens": 5}, None),
        ({"prompt_tokens": 5, "completion_tokens": None}, None),
        ({"prompt_tokens": -5, "completion_tokens": 1}, None),
        ("many", None),
    ],
)  # fmt: skip
def test_usage_is_what_will_be_billed(told: Any, read: tuple[int, int, int, int] | None) -> None:
    usage = usage_of({"usage": told})
    if read is None:
        assert usage is None
    else:
        assert usage is not None
        assert (
            usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens
        ) == read  # fmt: skip


def test_of_usage_told_twice_the_dearer_counts() -> None:
    def told(prompt: int, completion: int, cached: int = 0) -> RequestUsage | None:
        details = {"prompt_tokens_details": {"cached_tokens": cached}}
        return usage_of({"usage": {"prompt_tokens": prompt, "completion_tokens": completion, **details}})

    usage = dearer(dearer(dearer(RequestUsage(), told(1000, 1, 900)), told(0, 50)), None)
    assert (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens) == (1000, 50, 900)
