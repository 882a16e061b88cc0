"""Whatever a provider of the OpenAI-compatible interface may send, as bytes, drawn from the grammar of its answers.

Each field is right, missing, given twice or anything else; below it stands any JSON there is and what some writers take
for JSON. A document may be cut or changed at any byte.
"""

from collections.abc import Callable

from hypothesis import strategies as st

Text = st.SearchStrategy[str]

SCALARS = st.sampled_from([
    "null", "true", "false", "0", "-0", "-1", "1", "7", "1.5", "1e3", "1e999", "-1e999", "1E-400", "NaN", "Infinity",
    "-Infinity", "9007199254740993", "9" * 400, "9" * 5_000, '""', '"x"', '"null"', '"\\ud83d"', '"\\ude00\\ud83d"',
    '"\\ud83d\\ude00"', '"\\u0000"', '"\\u2028"', '"\u00e9\u4e2d"',
    "[" * 3_000 + "]" * 3_000, '{"a":' * 500 + "1" + "}" * 500,
])  # fmt: skip
KEYS = st.sampled_from(['"a"', '"index"', '"content"', '"usage"', '"error"', '""', '"\\ud800"', '"\\u0000"'])


def _array(items: list[str]) -> str:
    return f"[{','.join(items)}]"


def _object(pairs: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{key}:{value}" for key, value in pairs) + "}"


def _around(inner: Text) -> Text:
    return st.lists(inner, max_size=3).map(_array) | st.lists(st.tuples(KEYS, inner), max_size=3).map(_object)


ANYTHING: Text = st.recursive(SCALARS, _around, max_leaves=6)


@st.composite
def _fields(draw: st.DrawFn, /, **fields: Text) -> str:
    """An object of the interface in which each field is right more often than not."""
    pairs: list[tuple[str, str]] = []
    for name, right in fields.items():
        how = draw(st.integers(0, 11))  # towards zero, which is right, when an example is made smaller
        values = [right] if how < 9 else {9: [], 10: [ANYTHING], 11: [right, ANYTHING]}[how]
        pairs += [(f'"{name}"', draw(value)) for value in values]
    return _object(pairs if draw(st.booleans()) else pairs[::-1])


def _one_of(*tokens: str) -> Text:
    return st.sampled_from(tokens)


def _listed(item: Text, most: int = 2) -> Text:
    return st.lists(item, min_size=1, max_size=most).map(_array)


WORDS = _one_of('"Good day."', '"one [email-1] two"', '""', "null", '"\\ud83d half"', '"\u4e2d"')
INDEX = _one_of("0", "0", "1", "3")
ARGUMENTS = _one_of('"{\\"query\\":\\"a\\"}"', '"{}"', '"null"', "null", '""', '"[]"', '"{\\"query\\":NaN}"', '"{"')
NAMES = _one_of('"probe_lookup"', '"probe_lookup"', '"final_result"', '"nothing"', '""')
CALL = _fields(
    index=INDEX, id=_one_of('"call_1"', '"call_1"', '""', "null"), type=_one_of('"function"'),
    function=_fields(name=NAMES, arguments=ARGUMENTS),
)  # fmt: skip
COUNTS = _one_of("5", "12", "0", "900", "901", "-1", "10000000", "12.0", "true", '"12"', "null", "1e30")
USAGE = _fields(
    prompt_tokens=COUNTS, completion_tokens=COUNTS, total_tokens=COUNTS,
    completion_tokens_details=_fields(reasoning_tokens=COUNTS),
    prompt_tokens_details=_fields(cached_tokens=COUNTS, cache_write_tokens=COUNTS),
)  # fmt: skip
GOOD_USAGE = _one_of('{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17}')
FINISH = _one_of('"stop"', '"tool_calls"', '"length"', '"content_filter"', "null")


def _said(calls: Text) -> Text:
    return _fields(role=_one_of('"assistant"'), content=WORDS, refusal=_one_of("null", '"no"'), tool_calls=calls)


SAID = _said(_one_of("null", "[]")) | _said(_listed(CALL, 3))


def _answers(said: str, kind: str, finish: Text) -> Text:
    choice = _fields(index=INDEX, logprobs=_one_of("null") | ANYTHING, finish_reason=finish, **{said: SAID})
    return _fields(
        id=_one_of('"x"'), object=_one_of(f'"{kind}"'), created=_one_of("1"), model=_one_of('"probe-model-1"'),
        choices=_listed(choice) | _one_of("[]"), usage=GOOD_USAGE | USAGE | _one_of("null"),
        error=_one_of("null"),
    )  # fmt: skip


@st.composite
def _changed(draw: st.DrawFn, raw: bytes) -> bytes:
    """As it is, or cut off or overwritten at any byte."""
    how = draw(st.integers(0, 9))
    if how < 7 or not raw:
        return raw
    at = draw(st.integers(0, len(raw)))
    return raw[:at] if how == 7 else raw[:at] + draw(st.binary(min_size=1, max_size=3)) + raw[at + how - 8 :]


def _bytes(text: Text) -> st.SearchStrategy[bytes]:
    return text.flatmap(lambda made: _changed(made.encode("utf-8", "surrogatepass")))


WHOLE: st.SearchStrategy[bytes] = _bytes(_answers("message", "chat.completion", FINISH) | ANYTHING)

CHUNK = _answers("delta", "chat.completion.chunk", _one_of("null", "null", '"stop"', '"tool_calls"')) | ANYTHING
FRAMES: list[Callable[[str], str]] = [
    lambda chunk: f"data: {chunk}\n\n", lambda chunk: f"data:{chunk}\r\n\r\n",
    lambda chunk: f": ping\n\ndata: {chunk}\n\n",
    lambda chunk: f"event: message\nid: 1\ndata: {chunk}\n\n", lambda chunk: f"retry: 5\n\ndata: {chunk}\n\n\n",
]  # fmt: skip
LAST = '{"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
ENDS = st.sampled_from(["data: [DONE]\n\n", f"data: {LAST}\n\ndata: [DONE]\n\n", "", f"data: {LAST}\n\n"])
FRAMED = st.tuples(CHUNK, st.sampled_from(FRAMES)).map(lambda pair: pair[1](pair[0]))
STREAM: st.SearchStrategy[bytes] = _bytes(
    st.tuples(st.lists(FRAMED, min_size=1, max_size=4), ENDS).map(lambda parts: "".join(parts[0]) + parts[1])
)
