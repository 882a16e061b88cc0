"""What is asked of the inference server through the service, with OpenAI's package; what is booked is read after each.

OPENAI_BASE_URL and OPENAI_API_KEY lead to the service, LLAMA_METRICS to what the server itself counts.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import httpx
import jsonschema
from openai import BadRequestError, OpenAI
from scenario import expect, plays

MODEL = "gemma-3-270m"
LIMIT_SECONDS = 300  # for what the service does by itself, on a machine however busy
client = OpenAI(max_retries=0, timeout=240)
plain = httpx.Client(trust_env=False, timeout=60)
SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Paris"]}, "stars": {"type": "integer", "minimum": 1, "maximum": 5}},
    "required": ["city", "stars"],
    "additionalProperties": False,
}
EXAMPLE = 'Answers look like {"city":"Paris","stars":4} and have no spaces.'
TOOL = {"name": "find_order", "parameters": {"type": "object", "properties": {"number": {"type": "integer"}}}}


@dataclass(frozen=True)
class Booked:
    calls: int
    read: int
    written: int
    usd: Decimal
    held: Decimal

    def since(self, before: "Booked") -> tuple[int, int, int]:
        return self.calls - before.calls, self.read - before.read, self.written - before.written


def booked() -> Booked:
    pages = (plain.get(f"{client.base_url}{name}", headers=client.auth_headers) for name in ("usage", "budgets"))
    usage, budgets = (page.raise_for_status().json() for page in pages)
    rows = usage["items"]
    held = sum(Decimal(each["held_usd"]) for each in budgets["items"])
    sums = (sum(row[name] for row in rows) for name in ("model_calls", "input_tokens", "output_tokens"))
    return Booked(*sums, Decimal(usage["cost_usd"]), held)


def counted(name: str = "tokens_predicted_total") -> int:
    """What the server itself counts; left out, the tokens that it has written in answers that came to their end."""
    lines = plain.get(os.environ["LLAMA_METRICS"]).raise_for_status().text.splitlines()
    return next(int(float(line.split()[1])) for line in lines if line.startswith(f"llamacpp:{name} "))


def wait_until(holds: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + LIMIT_SECONDS
    while not holds():
        expect(time.monotonic() < until, f"not within {LIMIT_SECONDS} s: {what}")
        time.sleep(0.5)


def is_booked(play: Callable[[], tuple[int, int]]) -> Callable[[], None]:
    """The call, which returns the tokens that its answer reports, is booked with these; the server counts as many."""

    def checked() -> None:
        before, count = booked(), counted()
        read, written = play()
        after = booked()
        expect(read > 0 < written, f"the answer reports {read} and {written} tokens")
        expect(after.since(before) == (1, read, written), f"{after.since(before)} booked, {read} and {written} told")
        expect(counted() - count == written, f"{counted() - count} written by the server's count, {written} booked")
        expect(after.usd > before.usd, "it cost nothing")
        expect(after.held == 0, f"{after.held} held after the answer")

    return checked


def ask(text: str, **more: object) -> object:
    return client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}], **more)


def tokens(usage: object) -> tuple[int, int]:
    return usage.prompt_tokens, usage.completion_tokens


def chat() -> tuple[int, int]:
    answer = ask("The capital of Portugal is", max_tokens=8, temperature=0, top_p=0.9, seed=7)
    expect(answer.choices[0].message.content, answer)
    expect(answer.choices[0].finish_reason in {"stop", "length"}, answer)
    return tokens(answer.usage)


def stream() -> tuple[int, int]:
    pieces = list(ask("Count: one, two,", max_tokens=8, stream=True, stream_options={"include_usage": True}))
    texts = [piece.choices[0].delta.content for piece in pieces if piece.choices and piece.choices[0].delta.content]
    expect(len(texts) > 2, f"it came in {len(texts)} pieces")
    return tokens(pieces[-1].usage)


def schema_bound() -> tuple[int, int]:
    form = {"type": "json_schema", "json_schema": {"name": "visit", "strict": True, "schema": SCHEMA}}
    answer = ask(EXAMPLE, response_format=form, max_tokens=120, temperature=0)
    jsonschema.validate(json.loads(answer.choices[0].message.content), SCHEMA)
    return tokens(answer.usage)


def tool_offered() -> tuple[int, int]:
    """It is taken. Nothing is said of a call: this server cannot force one with a model that has no form for it."""
    answer = ask("Where is order 7?", max_tokens=8, temperature=0, tools=[{"type": "function", "function": TOOL}])
    expect(answer.choices[0].message.content or answer.choices[0].message.tool_calls, answer)
    return tokens(answer.usage)


def responses() -> tuple[int, int]:
    answer = client.responses.create(model=MODEL, input="The capital of Portugal is", max_output_tokens=8)
    expect(answer.output_text and answer.status in {"completed", "incomplete"}, answer)
    return answer.usage.input_tokens, answer.usage.output_tokens


def responses_stream() -> tuple[int, int]:
    asked = {"model": MODEL, "input": "Count: one, two,", "max_output_tokens": 8, "stream": True}
    events = list(client.responses.create(**asked))
    last = events[-1]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    expect(len(deltas) > 2, f"it came in {len(deltas)} pieces")
    expect(last.type in {"response.completed", "response.incomplete"}, last.type)
    expect(last.response.output_text == "".join(deltas), "the whole is not the sum of its pieces")
    return last.response.usage.input_tokens, last.response.usage.output_tokens


def left() -> None:
    """The reader goes away: no less than came is booked, nothing stays held, and the server stops to write."""
    most, before, count = 900, booked(), counted()
    seen = 0
    with ask("Count: one, two,", max_tokens=most, stream=True, temperature=0) as pieces:
        for piece in pieces:
            seen += bool(piece.choices and piece.choices[0].delta.content)
            if seen == 12:
                break
    expect(seen == 12, f"the stream ended by itself after {seen} pieces")
    wait_until(lambda: booked().calls > before.calls, "the call is booked")
    wait_until(lambda: counted("requests_processing") == 0, "the server is idle")
    expect(counted() - count < most, "the server wrote to the end")
    after = booked()
    calls, read, written = after.since(before)
    expect(calls == 1 and read > 0, f"{calls} calls and {read} tokens that were read are booked")
    expect(seen <= written <= most, f"{written} tokens booked, {seen} pieces seen")
    expect(after.held == 0, f"{after.held} held after it was left")


def told(call: Callable[[], object], *words: str) -> None:
    before = booked()
    try:
        call()
    except BadRequestError as error:
        expect(all(word in str(error) for word in words), f"the server's reason is not told: {error}")
        expect(booked().since(before)[1:] == (0, 0), "a refused request is booked")
        expect(booked().held == 0, "held after a refusal")
        return
    raise AssertionError("no error")


def too_long() -> None:
    told(lambda: ask("word " * 1_500, max_tokens=8), "exceeds the available context size (1024 tokens)")


def wrong_schema() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "visit", "schema": {"type": "objekt"}}}
    told(lambda: ask("Hello", max_tokens=8, response_format=form), "unrecognized type objekt")


for asked in (chat, stream, schema_bound, tool_offered, responses, responses_stream):
    plays(asked.__name__, is_booked(asked))
for play in (left, too_long, wrong_schema):
    plays(play.__name__, play)
