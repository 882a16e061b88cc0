import json

from openai import OpenAI
from pydantic import BaseModel
from scenario import LONG, MODEL, QUESTION, REFUSED, SLOW, expect, plays, refused

client = OpenAI()  # OPENAI_BASE_URL, OPENAI_API_KEY
TOOL = {
    "type": "function",
    "function": {
        "name": "find_order",
        "parameters": {"type": "object", "properties": {"number": {"type": "string"}}, "required": ["number"]},
    },
}


class City(BaseModel):
    name: str
    people: int


def ask(text: str, **more: object) -> object:
    return client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}], **more)


def chat() -> None:
    expect("Lisbon" in ask(QUESTION, temperature=0.2, max_tokens=500).choices[0].message.content, "no answer")


def stream() -> None:
    pieces = list(ask(QUESTION, stream=True, stream_options={"include_usage": True}))
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    expect("Lisbon" in text, text)
    expect(pieces[-1].usage.completion_tokens > 0, "no usage")


def tools() -> None:
    messages: list[object] = [{"role": "user", "content": QUESTION}]
    for _ in range(3):
        message = client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL]).choices[0].message
        messages.append(message)
        if not message.tool_calls:
            break
        for call in message.tool_calls:
            found = json.loads(call.function.arguments)["number"]
            messages.append({"role": "tool", "tool_call_id": call.id, "content": found})
    expect("Lisbon" in message.content, message)


def echoed_deltas() -> None:
    """The message is put together from pieces with their `index`, as a loop around a stream does, and sent back."""
    messages: list[object] = [{"role": "user", "content": QUESTION}]
    gathered: dict[str, object] = {"role": "assistant", "content": None, "tool_calls": []}
    for piece in client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL], stream=True):
        for call in piece.choices[0].delta.tool_calls or ():
            if call.index >= len(gathered["tool_calls"]):
                gathered["tool_calls"].append(call.model_dump())
            else:
                gathered["tool_calls"][call.index]["function"]["arguments"] += call.function.arguments
    messages.append(gathered)
    messages.append({"role": "tool", "tool_call_id": gathered["tool_calls"][0]["id"], "content": "sent"})
    answer = client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL])
    expect("Lisbon" in answer.choices[0].message.content, answer)


def echoed_with_notes() -> None:
    """The message comes back with what libraries write beside it."""
    messages: list[object] = [{"role": "user", "content": QUESTION}]
    message = client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL]).choices[0].message
    notes = {"index": 0, "sender": "a", "annotations": [], "provider_specific_fields": {"a": None}, "audio": None}
    messages.append({**message.model_dump(), **notes, "function_call": None})
    [call] = message.tool_calls
    messages.append({"role": "tool", "name": call.function.name, "tool_call_id": call.id, "content": "sent"})
    answer = client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL])
    expect("Lisbon" in answer.choices[0].message.content, answer)


def functions() -> None:
    """As code had it before there were tools."""
    messages: list[object] = [{"role": "user", "content": QUESTION}]
    asked = {"model": MODEL, "messages": messages, "functions": [TOOL["function"]]}
    choice = client.chat.completions.create(function_call="auto", **asked).choices[0]
    expect(choice.finish_reason == "function_call", choice)
    streamed = [piece.choices[0].delta.function_call for piece in client.chat.completions.create(stream=True, **asked)]
    arguments = "".join(called.arguments or "" for called in streamed if called)
    expect(arguments == choice.message.function_call.arguments, arguments)
    messages += [choice.message, {"role": "function", "name": "find_order", "content": "sent"}]
    expect("Lisbon" in client.chat.completions.create(**asked).choices[0].message.content, "no answer")


def structured() -> None:
    messages = [{"role": "user", "content": QUESTION}]
    parsed = client.chat.completions.parse(model=MODEL, messages=messages, response_format=City)
    expect(isinstance(parsed.choices[0].message.parsed, City), parsed)


def long() -> None:
    text = ask(LONG, max_tokens=8_000).choices[0].message.content
    expect(len(text.split()) >= 6_000, f"{len(text.split())} words")


def slow() -> None:
    text = "".join(piece.choices[0].delta.content or "" for piece in ask(SLOW, stream=True) if piece.choices)
    expect("Portugal" in text, text)


def usual_extras() -> None:
    answer = ask(
        QUESTION, store=False, metadata={"a": "b"}, service_tier="auto", safety_identifier="u1", prompt_cache_key="k",
        modalities=["text"], top_p=0.9, presence_penalty=0.1, frequency_penalty=0.1, seed=7, user="u1",
    )  # fmt: skip
    expect("Lisbon" in answer.choices[0].message.content, answer)


def responses() -> None:
    expect("Lisbon" in client.responses.create(model=MODEL, input=QUESTION).output_text, "no answer")


def responses_stream() -> None:
    events = list(client.responses.create(model=MODEL, input=QUESTION, stream=True))
    expect(events[-1].type == "response.completed", events[-1].type)


def responses_tools() -> None:
    items: list[object] = [{"role": "user", "content": QUESTION}]
    tool = {"type": "function", **TOOL["function"]}
    for _ in range(3):
        answer = client.responses.create(model=MODEL, input=items, tools=[tool])
        items += answer.output
        calls = [item for item in answer.output if item.type == "function_call"]
        if not calls:
            break
        items += [{"type": "function_call_output", "call_id": call.call_id, "output": "sent"} for call in calls]
    expect("Lisbon" in answer.output_text, answer)


def responses_structured() -> None:
    with client.responses.stream(model=MODEL, input=QUESTION, text_format=City) as events:
        parsed = events.get_final_response().output_parsed
    expect(isinstance(parsed, City), parsed)


def embeddings() -> None:
    made = client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
    expect(len(made.data) == 2, made)


def models() -> None:
    expect(MODEL in {each.id for each in client.models.list()}, "not in the list")
    expect(client.models.retrieve(MODEL).id == MODEL, "not by its name")


for play in (chat, stream, tools, echoed_deltas, echoed_with_notes, functions, structured, long, slow, usual_extras,
             responses, responses_stream, responses_tools, responses_structured, embeddings, models):  # fmt: skip
    plays(play.__name__, play)
plays("refused", lambda: refused(lambda: ask(REFUSED)))
