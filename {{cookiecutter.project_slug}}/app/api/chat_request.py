"""What the chat interface may be asked: the parameters of OpenAI's whose price is in tokens, each within bounds.

What would be billed apart (searches, audio, pictures, faster service) has no cap here and is refused. Gate: cost.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator

from app.api.schemas import NO_NUL, Integral, Strict, has_nul
from app.content.tool_arguments import NO_ARGUMENTS, says_nothing
from app.gateway.cache import CachePolicy
from app.gateway.chat_request import ChatRequest

MOST_MESSAGES, MOST_TOOLS = 500, 128
MOST_FIELDS = 60  # of a part of an answer
Text = Annotated[str, StringConstraints(max_length=400_000, pattern=NO_NUL)]
FunctionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
CallId = Annotated[str, StringConstraints(max_length=8_000, pattern=NO_NUL)]  # as a provider gave it; it may be empty
DEEPEST = 40  # a schema's levels


def _shallow(schema: dict[str, Any]) -> dict[str, Any]:
    level: list[Any] = [schema]
    for _ in range(DEEPEST):
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
        level = [each for each in level if isinstance(each, dict | list)]
        if not level:
            return schema
    raise ValueError(f"at most {DEEPEST} levels")


Schema = Annotated[dict[str, Any], AfterValidator(_shallow)]


class TextPart(Strict):
    type: Literal["text"]
    text: Text


class FromProvider(Strict):
    """A part of an answer that is sent back: fields that this service does not know go to the provider they came from.

    Personal data is replaced in them as everywhere, and they are read within the request's own bounds."""

    model_config = ConfigDict(extra="allow", strict=True, json_schema_extra={"maxProperties": MOST_FIELDS})

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        unknown = self.model_extra or {}
        if len(self.model_fields_set) > MOST_FIELDS:
            raise ValueError(f"at most {MOST_FIELDS} fields")
        _shallow(unknown)
        if has_nul(unknown):
            raise ValueError("the character NUL is not allowed")
        return self


class CalledFunction(FromProvider):
    name: Annotated[str, StringConstraints(max_length=256, pattern=NO_NUL)]  # whatever a model called
    arguments: Text | None = None


class ToolCall(FromProvider):
    id: CallId | None = None
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(FromProvider):
    """What somebody said. An assistant's is an answer as it was given; what else stands beside these is left out."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | Annotated[list[TextPart], Field(min_length=1, max_length=100)] | None = None
    name: FunctionName | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MOST_TOOLS)] | None = None
    tool_call_id: CallId | None = None
    refusal: Text | None = None
    # An answer put back into the conversation has these; they say nothing to a model.
    annotations: Annotated[list[dict[str, Any]], Field(max_length=200)] | None = None
    audio: None = None
    function_call: None = None


class FunctionSchema(Strict):
    name: FunctionName
    description: Annotated[str, StringConstraints(max_length=8_000, pattern=NO_NUL)] | None = None
    parameters: Schema | None = None
    strict: bool | None = None


class Tool(Strict):
    type: Literal["function"]
    function: FunctionSchema


class ChosenFunction(Strict):
    name: FunctionName


class ToolChoice(Strict):
    type: Literal["function"]
    function: ChosenFunction


class ResponseFormat(Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: Schema | None = None


class StreamOptions(Strict):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # left out


Tokens = Annotated[int, Field(ge=1, le=1_000_000), Integral]
Label = Annotated[str, StringConstraints(max_length=600, pattern=NO_NUL)]
Bias = Annotated[float, Field(ge=-100, le=100)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=NO_NUL)]


class ChatCompletionCreate(Strict):
    model: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,119}$")]
    messages: Annotated[list[Message], Field(min_length=1, max_length=MOST_MESSAGES)]
    max_completion_tokens: Tokens | None = None
    max_tokens: Tokens | None = Field(None, description="the older name of max_completion_tokens")
    n: Annotated[int, Field(ge=1, le=16), Integral] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[str, StringConstraints(max_length=200, pattern=NO_NUL)] | None = Field(
        None, description="taken and not passed on: the provider learns of no user"
    )
    # What clients send by habit and no model needs: taken, and left out.
    store: Literal[False] | None = Field(None, description="nothing is stored at the provider")
    service_tier: Literal["auto", "default"] | None = Field(None, description="faster service would be billed apart")
    metadata: Annotated[dict[Label, Label], Field(max_length=16)] | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: Label | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=1)] | None = None
    tools: Annotated[list[Tool], Field(max_length=MOST_TOOLS)] | None = None
    # From here on passed on as it is.
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    seed: Annotated[int, Field(ge=-(2**53), le=2**53), Integral] | None = None
    logit_bias: (
        Annotated[dict[Annotated[str, StringConstraints(pattern=r"^[0-9]{1,7}$")], Bias], Field(max_length=300)] | None
    ) = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20), Integral] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high"] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None

    def request(self, caching: CachePolicy) -> ChatRequest:
        said = self.model_dump(exclude_none=True)
        passed = {name: said[name] for name in PASSED_ON if name in said}
        messages = [_without_remains(message) for message in said["messages"]]
        most = min((n for n in (self.max_completion_tokens, self.max_tokens) if n is not None), default=None)
        return ChatRequest(self.model, messages, said.get("tools", []), passed, most, self.n or 1, caching)


PASSED_ON = (
    "tool_choice", "parallel_tool_calls", "response_format", "temperature", "top_p", "frequency_penalty",
    "presence_penalty", "stop", "seed", "logit_bias", "logprobs", "top_logprobs", "reasoning_effort", "verbosity",
)  # fmt: skip


# Of a message and its calls: what libraries and pieces of streams put there, and no provider reads.
REMAINS = frozenset(
    {
        "annotations",
        "index",
        "sender",
        "tool_name",
        "provider_specific_fields",
        "cache_control",
        "function_call",
        "audio",
    }
)
SAID = {  # by others than an assistant: of these a provider reads nothing else
    "role", "content", "name", "tool_call_id",
}  # fmt: skip


def _without_remains(message: dict[str, Any]) -> dict[str, Any]:
    is_answer = message["role"] == "assistant"
    kept = {
        name: value
        for name, value in message.items()
        if value != [] and (name not in REMAINS if is_answer else name in SAID)
    }
    for call in kept.get("tool_calls", ()):
        for name in REMAINS & call.keys():
            del call[name]
        if says_nothing(call["function"].get("arguments")):
            call["function"]["arguments"] = NO_ARGUMENTS
    if kept["role"] != "assistant":
        kept.setdefault("content", "")
    return kept
