"""An agent around a stream: pieces are merged as they come, and the merged message goes back as it is."""

import json

from openai import OpenAI

client = OpenAI()
STOCK = {"umbrella": 4, "raincoat": 0}
PRICES = {"umbrella": "19.90", "raincoat": "45.00"}


def function(name, description):
    item = {"type": "string", "enum": sorted(STOCK)}
    parameters = {"type": "object", "properties": {"item": item}, "required": ["item"]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS = [function("check_stock", "How many are left."), function("get_price", "The price of one, in euros.")]
RUN = {"check_stock": lambda item: str(STOCK[item]), "get_price": lambda item: PRICES[item]}


def merge(into, piece):
    """Texts are joined, lists are merged by `index`, and what is null fills a place that was empty."""
    for key, value in piece.items():
        if isinstance(value, list):
            known = into.get(key) or []
            into[key] = known
            for part in value:
                while len(known) <= part["index"]:
                    known.append({})
                merge(known[part["index"]], part)
        elif isinstance(value, dict):
            into[key] = into.get(key) or {}
            merge(into[key], value)
        elif isinstance(value, str) and isinstance(into.get(key), str) and key not in ("role", "type", "id"):
            into[key] += value
        elif value is not None or key not in into:
            into[key] = value


def turn(messages):
    message = {}
    stream = client.chat.completions.create(
        model="gpt-4o", messages=messages, tools=TOOLS, temperature=0.3, stream=True
    )
    for chunk in stream:
        if chunk.choices:
            merge(message, chunk.choices[0].delta.model_dump())
    return message


history = [{"role": "system", "content": "You work in a shop for bad weather."}]
for question in ("Check whether an umbrella is left and get its price.", "And the raincoat? Check the stock."):
    history.append({"role": "user", "content": question})
    for _ in range(6):
        answer = turn(history)
        history.append(answer)
        if not answer.get("tool_calls"):
            print("answer:", answer["content"])
            break
        for call in answer["tool_calls"]:
            arguments = json.loads(call["function"]["arguments"])
            result = RUN[call["function"]["name"]](**arguments)
            print("tool:", call["function"]["name"], arguments["item"], result)
            history.append({"role": "tool", "tool_call_id": call["id"], "content": result})
    else:
        raise SystemExit("no answer after six turns")
