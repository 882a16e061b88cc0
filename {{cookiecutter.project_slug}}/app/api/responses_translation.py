"""A request of the Responses interface as the chat interface has it, so that one guarded call serves both.

Gate: cost, validation.
"""

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from app.api.responses_request import (
    FunctionCall,
    FunctionCallOutput,
    InputItem,
    InputMessage,
    InputRefusalPart,
    InputTextPart,
    Parts,
    PlainFormat,
    ResponseCreate,
    SchemaFormat,
)
from app.content.tool_arguments import NO_ARGUMENTS, says_nothing
from app.gateway.cache import CachePolicy
from app.gateway.chat_request import ChatRequest

Body = dict[str, Any]
# The chat interface's names of parameters, and this one's.
PARAMETERS: Mapping[str, str] = MappingProxyType(
    {
        "max_completion_tokens": "max_output_tokens",
        "reasoning_effort": "reasoning.effort",
        "response_format": "text.format",
        "verbosity": "text.verbosity",
    }
)
_SAME_NAME = ("temperature", "top_p", "parallel_tool_calls", "top_logprobs")


def chat_request(asked: ResponseCreate, caching: CachePolicy) -> ChatRequest:
    """The guarded call for it. Instructions are a system's message, the first."""
    instructions = [{"role": "system", "content": asked.instructions}] if asked.instructions else []
    messages = instructions + messages_of(asked.input)
    tools = [{"type": "function", "function": _function(tool.model_dump())} for tool in asked.tools or ()]
    return ChatRequest(asked.model, messages, tools, _parameters(asked), asked.max_output_tokens, caching=caching)


def messages_of(items: Sequence[InputItem]) -> list[Body]:
    """The conversation. Calls that follow each other are one message, together with what was said before them."""
    messages: list[Body] = []
    calling: Body | None = None  # the message that a call belongs to
    for item in items:
        match item:
            case InputMessage():
                messages.append(_message(item))
                calling = messages[-1] if item.role == "assistant" else None
            case FunctionCall():
                if calling is None:
                    calling = {"role": "assistant"}
                    messages.append(calling)
                calling.setdefault("tool_calls", []).append(_call(item))
            case FunctionCallOutput():
                messages.append({"role": "tool", "tool_call_id": item.call_id, "content": _content(item.output)})
                calling = None
    return _with_results_in_place(messages)


def _with_results_in_place(messages: list[Body]) -> list[Body]:
    """Each call's result right behind the message that calls, where the chat interface wants it.

    An id may come again in a later turn; it is a call's next result that counts."""
    results = defaultdict[str, deque[int]](deque)
    for at, message in enumerate(messages):
        if message["role"] == "tool":
            results[message["tool_call_id"]].append(at)
    made: list[Body] = []
    moved: set[int] = set()
    for at, message in enumerate(messages):
        if at in moved:
            continue
        made.append(message)
        if message["role"] == "tool":
            results[message["tool_call_id"]].popleft()
        for call in message.get("tool_calls", ()):
            if results[call["id"]]:
                moved.add(results[call["id"]][0])
                made.append(messages[results[call["id"]].popleft()])
    return made


def _message(said: InputMessage) -> Body:
    message: Body = {"role": said.role, "content": _content(said.content)}
    refusals = [part.refusal for part in said.content if isinstance(part, InputRefusalPart)]
    if refusals and said.role == "assistant":
        message["refusal"] = "".join(refusals)
    return message


def _content(parts: Parts) -> str | list[Body]:
    texts = [part.text for part in parts if isinstance(part, InputTextPart)]
    if len(texts) < 2:
        return "".join(texts)
    return [{"type": "text", "text": text} for text in texts]


def _call(item: FunctionCall) -> Body:
    arguments = NO_ARGUMENTS if says_nothing(item.arguments) else item.arguments
    return {"id": item.call_id, "type": "function", "function": {"name": item.name, "arguments": arguments}}


def _function(told: Body) -> Body:
    return {name: value for name, value in told.items() if name != "type" and value is not None}


def _parameters(asked: ResponseCreate) -> Body:
    """What is said of the answer, in the chat interface's words; what is not said is left out."""
    text, reasoning, choice = asked.text, asked.reasoning, asked.tool_choice
    said: Body = {name: getattr(asked, name) for name in _SAME_NAME}
    if choice is not None:
        named = choice if isinstance(choice, str) else {"type": "function", "function": {"name": choice.name}}
        said["tool_choice"] = named
    said["response_format"] = _response_format(text.format) if text and text.format else None
    said["verbosity"] = text.verbosity if text else None
    said["reasoning_effort"] = reasoning.effort if reasoning else None
    said["logprobs"] = asked.with_logprobs or None
    return {name: value for name, value in said.items() if value is not None}


def _response_format(form: PlainFormat | SchemaFormat) -> Body | None:
    if isinstance(form, SchemaFormat):
        return {"type": "json_schema", "json_schema": _function(form.model_dump(by_alias=True))}
    return None if form.type == "text" else {"type": "json_object"}  # text it is anyway
