import json
import os

import litellm
from scenario import LONG, MODEL, QUESTION, REFUSED, SLOW, expect, plays, refused

litellm.api_base = os.environ["OPENAI_BASE_URL"]
TOOL = {
    "type": "function",
    "function": {"name": "find_order", "parameters": {"type": "object", "properties": {"number": {"type": "string"}}}},
}


def ask(text: str, **more: object) -> object:
    return litellm.completion(model=f"openai/{MODEL}", messages=[{"role": "user", "content": text}], **more)


def chat() -> None:
    expect("Lisbon" in ask(QUESTION, temperature=0.2).choices[0].message.content, "no answer")


def stream() -> None:
    expect("Lisbon" in "".join(each.choices[0].delta.content or "" for each in ask(QUESTION, stream=True)), "no answer")


def tools() -> None:
    messages = [{"role": "user", "content": QUESTION}]
    message = litellm.completion(model=f"openai/{MODEL}", messages=messages, tools=[TOOL]).choices[0].message
    messages.append(message)
    call = message.tool_calls[0]
    messages.append({"role": "tool", "tool_call_id": call.id, "name": "find_order", "content": json.dumps("sent")})
    answer = litellm.completion(model=f"openai/{MODEL}", messages=messages, tools=[TOOL])
    expect("Lisbon" in answer.choices[0].message.content, answer)


def long() -> None:
    expect(len(ask(LONG, max_tokens=8_000).choices[0].message.content.split()) >= 6_000, "cut")


def slow() -> None:
    text = "".join(each.choices[0].delta.content or "" for each in ask(SLOW, stream=True))
    expect("Portugal" in text, text)


for play in (chat, stream, tools, long, slow):
    plays(play.__name__, play)
plays("refused", lambda: refused(lambda: ask(REFUSED)))
