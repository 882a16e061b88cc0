"""What a provider is sent of an agent's conversation and tools: placeholders, put back in what it answers.

Every field of a request is gone through but for those that EXEMPT names. Gate: validation.
"""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.tools import ToolDefinition

from app.gateway.placeholders import Placeholders, changed_arguments

# Words of the protocol, what the provider itself has written for itself, and what no provider is sent.
EXEMPT = frozenset({
    "kind", "part_kind", "tool_kind", "state", "outcome", "timestamp", "media_type", "_media_type", "finish_reason",
    "usage", "signature", "id", "provider_name", "provider_url", "provider_details", "provider_response_id",
    "model_name",
    "metadata", "run_id", "conversation_id", "workspace_ref", "history_digest", "failed_attempts",
    "retry",
    "instructions",  # the service's own, and the same byte for byte
})  # fmt: skip
NAMES = frozenset({"tool_name", "tool_call_id"})  # what must match between a call, its result and its tool


def hidden(
    messages: Sequence[ModelMessage], parameters: ModelRequestParameters
) -> tuple[list[ModelMessage], ModelRequestParameters, Placeholders]:
    """The conversation and the tools as a provider may see them, and what their placeholders stand for."""
    tools = [*parameters.function_tools, *parameters.output_tools]
    said = ModelMessagesTypeAdapter.dump_json(list(messages)).decode()
    placeholders = Placeholders.beside(
        said + "".join(f"{each.description}{each.parameters_json_schema}" for each in tools)
    )
    # Tools first: they are the same in every request of a run, and so are their placeholders.
    sent = replace(
        parameters,
        function_tools=[_tool(each, placeholders) for each in parameters.function_tools],
        output_tools=[_tool(each, placeholders) for each in parameters.output_tools],
    )
    return [_outgoing(message, placeholders) for message in messages], sent, placeholders


def shown(response: ModelResponse, placeholders: Placeholders) -> ModelResponse:
    """The provider's answer with personal data back in its text and its tool calls."""
    if not placeholders.originals:
        return response
    return replace(response, parts=[_incoming(part, placeholders) for part in response.parts])


def _tool(tool: ToolDefinition, placeholders: Placeholders) -> ToolDefinition:
    return replace(
        tool,
        name=placeholders.hide_name(tool.name),
        description=placeholders.hide(tool.description),
        parameters_json_schema=placeholders.hide_schema(tool.parameters_json_schema),
        return_schema=placeholders.hide_schema(tool.return_schema),
    )


def _outgoing(value: Any, placeholders: Placeholders) -> Any:
    """A message, a part of one, or what a part holds, however deep."""
    if isinstance(value, SystemPromptPart):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        old = {each.name: getattr(value, each.name) for each in fields(value) if each.init and each.name not in EXEMPT}
        new = {name: _field(name, held, placeholders) for name, held in old.items()}
        changed = {name: held for name, held in new.items() if held is not old[name] and held != old[name]}
        return replace(value, **changed) if changed else value
    if isinstance(value, list | tuple):  # of a message's parts, or of what a person or a tool says
        return [_outgoing(item, placeholders) for item in value]
    return placeholders.hide(value)


def _field(name: str, held: Any, placeholders: Placeholders) -> Any:
    if name in NAMES and isinstance(held, str):
        return placeholders.hide_name(held)
    if name == "args":
        return changed_arguments(held, placeholders.hide)
    return _outgoing(held, placeholders)


def _incoming(part: Any, placeholders: Placeholders) -> Any:
    match part:
        case TextPart():
            return replace(part, content=placeholders.show(part.content))
        case ToolCallPart():
            name = placeholders.show_name(part.tool_name)
            return replace(part, tool_name=name, args=changed_arguments(part.args, placeholders.show))
    return part
