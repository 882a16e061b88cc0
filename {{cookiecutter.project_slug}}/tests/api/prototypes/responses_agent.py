"""An agent on the Responses interface: what came out goes back in, and the last answer is shown as it is written."""

import json

from openai import OpenAI

client = OpenAI()
BALANCES = {"savings": "1200 EUR", "checking": "85 EUR"}
TOOLS = [
    {
        "type": "function",
        "name": "get_balance",
        "description": "The balance of an account.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"account": {"type": "string", "enum": ["savings", "checking"]}},
            "required": ["account"],
            "additionalProperties": False,
        },
    }
]
INSTRUCTIONS = "You answer questions about accounts."

conversation = [{"role": "user", "content": "Get the balance of my savings."}]
tokens = 0
for _ in range(6):
    response = client.responses.create(
        model="gpt-4.1", instructions=INSTRUCTIONS, input=conversation, tools=TOOLS, store=False
    )
    tokens += response.usage.total_tokens
    conversation += response.output
    calls = [item for item in response.output if item.type == "function_call"]
    if not calls:
        print("answer:", response.output_text)
        break
    for call in calls:
        account = json.loads(call.arguments)["account"]
        print("tool:", call.name, account, BALANCES[account])
        conversation.append({"type": "function_call_output", "call_id": call.call_id, "output": BALANCES[account]})

conversation.append({"role": "user", "content": "Thank you. Put it into one sentence."})
print("last: ", end="")
with client.responses.stream(model="gpt-4.1", instructions=INSTRUCTIONS, input=conversation) as stream:
    for event in stream:
        if event.type == "response.output_text.delta":
            print(event.delta, end="", flush=True)
    final = stream.get_final_response()
print()
tokens += final.usage.total_tokens
print("tokens:", tokens)
