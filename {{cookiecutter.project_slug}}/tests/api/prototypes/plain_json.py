"""No package at all: one template for every request, with null for what it does not use."""

import json
import os
import urllib.error
import urllib.request

NOTES = {"monday": "dentist at nine", "friday": "train to Porto"}
LOOK_UP = {
    "type": "function",
    "function": {
        "name": "read_note",
        "description": None,
        "strict": None,
        "parameters": {
            "type": "object",
            "properties": {"day": {"type": "string", "enum": ["monday", "friday"], "description": "in lower case"}},
            "required": ["day"],
            "additionalProperties": False,
        },
    },
}


def message(role, content, **more):
    empty = {"name": None, "refusal": None, "tool_calls": None, "function_call": None, "tool_call_id": None}
    return {"role": role, "content": content, **empty, **more}


def ask(messages, tools):
    body = {
        "model": "gpt-4o-mini",
        "messages": messages,
        "max_tokens": 4096,
        "temperature": 0.7,
        "top_p": 1,
        "n": 1,
        "stream": False,
        "stream_options": None,
        "stop": None,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "logit_bias": None,
        "logprobs": None,
        "top_logprobs": None,
        "user": None,
        "seed": None,
        "response_format": None,
        "tools": tools,
        "tool_choice": None,
        "parallel_tool_calls": None,
        "functions": None,
        "function_call": None,
        "metadata": None,
        "store": None,
    }
    request = urllib.request.Request(
        os.environ["OPENAI_BASE_URL"].rstrip("/") + "/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=300) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{error.code}: {error.read().decode()}")


messages = [message("system", "You keep a diary."), message("user", "Good morning.")]
spent = 0
reply = ask(messages, None)
spent += reply["usage"]["total_tokens"]
print("answer:", reply["choices"][0]["message"]["content"])
messages.append(message("assistant", reply["choices"][0]["message"]["content"]))

messages.append(message("user", "Read the note of friday."))
while True:
    reply = ask(messages, [LOOK_UP])
    spent += reply["usage"]["prompt_tokens"] + reply["usage"]["completion_tokens"]
    said = reply["choices"][0]["message"]
    messages.append(message("assistant", said["content"], tool_calls=said.get("tool_calls")))
    if reply["choices"][0]["finish_reason"] != "tool_calls":
        print("answer:", said["content"])
        break
    for call in said["tool_calls"]:
        day = json.loads(call["function"]["arguments"])["day"]
        print("tool:", call["function"]["name"], day, NOTES[day])
        messages.append(message("tool", NOTES[day], tool_call_id=call["id"]))
print("tokens:", spent)
