"""What the chat interface may be asked: the parameters of OpenAI's whose price is in tokens, each within bounds.

What would be billed apart (searches, audio, faster service) has no cap here and is refused. What happens to each field
is declared beside it and stands in docs/chat-fields.md. Gate: cost.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo, field_validator

from app.api.chat_fields import (
    PASSED,
    Fate,
    Handling,
    Refusing,
    dropped,
    fields_with,
    read,
    refused,
    translated,
)
from app.api.chat_functions import as_tool_choice, as_tool_messages, as_tools
from app.api.chat_messages import MAX_TOOLS, FunctionName, Message, sent, shallow
from app.api.schemas import NO_NUL, Integral, Strict
from app.gateway.cache import CachePolicy
from app.gateway.chat_request import ChatRequest
from app.gateway.vendor_fields import NONE, VendorFields

MAX_MESSAGES = 500
AS_IT_IS = Handling(Fate.PASSED, "as it is", whole=True)
Schema = Annotated[dict[str, Any], AfterValidator(shallow)]
Description = Annotated[str, StringConstraints(max_length=8_000, pattern=NO_NUL)]


class DeclaredFunction(Strict):
    """A function of the older interface, which has no `strict`."""

    name: Annotated[FunctionName, PASSED]
    description: Annotated[Description | None, PASSED] = None
    parameters: Annotated[Schema | None, AS_IT_IS] = None


class FunctionSchema(DeclaredFunction):
    strict: Annotated[bool | None, PASSED] = None


class Tool(Strict):
    type: Literal["function"]
    function: Annotated[FunctionSchema, PASSED]


class ChosenFunction(Strict):
    name: FunctionName


class ToolChoice(Strict):
    type: Literal["function"]
    function: ChosenFunction


class AllowedTools(Strict):
    mode: Literal["auto", "required"]
    tools: Annotated[list[ToolChoice], Field(max_length=MAX_TOOLS)]


class AllowedToolChoice(Strict):
    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


class ResponseFormat(Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: Schema | None = None


class StreamOptions(Strict):
    include_usage: Annotated[bool | None, read("the provider is always asked; the client gets it if it asked")] = None
    include_obfuscation: Annotated[bool | None, dropped("streams are not padded")] = None


Tokens = Annotated[int, Field(ge=1, le=1_000_000), Integral]
Label = Annotated[str, StringConstraints(max_length=600, pattern=NO_NUL)]
MetadataKey = Annotated[str, StringConstraints(max_length=64, pattern=NO_NUL)]
MetadataValue = Annotated[str, StringConstraints(max_length=512, pattern=NO_NUL)]
TokenId = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,7}$")]
Bias = Annotated[float, Field(ge=-100, le=100)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=NO_NUL)]
NO_CUSTOM = Refusing({"custom": "custom tools are not taken: declare a function"})
NO_USER = dropped("the provider learns of no user")
NO_CACHE_HINT = dropped("caching at the provider is left to it")
FASTER = "only the standard service has a price here"


class ChatCompletionCreate(Strict):
    model: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,119}$"),
        read("a tier or a name of config/models.toml; the provider gets the name of that tier's model"),
    ]
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES), PASSED]
    max_completion_tokens: Annotated[Tokens | None, read("for what can be read, up to a ceiling of its tier")] = None
    max_tokens: Annotated[Tokens | None, translated("to max_completion_tokens, whose older name it is")] = None
    n: Annotated[Annotated[int, Field(ge=1, le=16), Integral] | None, Handling(Fate.PASSED, "each is held for")] = None
    stream: Annotated[bool | None, read("the provider streams what is streamed here")] = None
    stream_options: Annotated[StreamOptions | None, read("")] = None
    tools: Annotated[Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None, NO_CUSTOM, PASSED] = None
    functions: Annotated[
        Annotated[list[DeclaredFunction], Field(max_length=MAX_TOOLS)] | None,
        translated("to `tools`; the answer has `function_call`"),
    ] = None
    function_call: Annotated[
        Literal["none", "auto"] | ChosenFunction | None, translated("to `tool_choice`; only with `functions`")
    ] = None
    # What clients send by habit and no model needs: taken, and left out.
    user: Annotated[Label | None, NO_USER] = None
    safety_identifier: Annotated[Label | None, NO_USER] = None
    store: Annotated[bool | None, dropped("nothing is stored at the provider")] = None
    metadata: Annotated[
        Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)] | None,
        dropped("it labels what is stored, and nothing is"),
    ] = None
    prompt_cache_key: Annotated[Label | None, NO_CACHE_HINT] = None
    prompt_cache_retention: Annotated[Label | None, NO_CACHE_HINT] = None
    prompt_cache_options: Annotated[Schema | None, NO_CACHE_HINT] = None
    prediction: Annotated[
        Schema | None, dropped("it only makes an answer faster, and what is predicted wrongly is billed as output")
    ] = None
    service_tier: Annotated[
        Literal["auto", "default"] | None,
        Refusing(dict.fromkeys(("flex", "scale", "priority", "fast"), FASTER)),
        dropped("the standard service"),
    ] = None
    modalities: Annotated[
        Annotated[list[Literal["text"]], Field(max_length=1)] | None,
        Refusing({"audio": "audio is not given: it is billed apart"}),
        dropped("text is all there is"),
    ] = None
    # What has a price of its own.
    audio: Annotated[None, refused("audio is not given: it is billed apart")] = None
    web_search_options: Annotated[None, refused("the provider's searches are not offered: they are billed apart")] = (
        None
    )
    moderation: Annotated[None, refused("the provider's moderation is not offered here: ask for it directly")] = None
    # From here on passed on as it is.
    tool_choice: Annotated[
        Literal["none", "auto", "required"] | ToolChoice | AllowedToolChoice | None, NO_CUSTOM, AS_IT_IS
    ] = None
    parallel_tool_calls: Annotated[bool | None, PASSED] = None
    response_format: Annotated[ResponseFormat | None, AS_IT_IS] = None
    temperature: Annotated[Annotated[float, Field(ge=0, le=2)] | None, PASSED] = None
    top_p: Annotated[Annotated[float, Field(ge=0, le=1)] | None, PASSED] = None
    frequency_penalty: Annotated[Penalty | None, PASSED] = None
    presence_penalty: Annotated[Penalty | None, PASSED] = None
    stop: Annotated[Stop | Annotated[list[Stop], Field(max_length=4)] | None, PASSED] = None
    seed: Annotated[
        Annotated[int, Field(ge=-(2**53), le=2**53), Integral] | None,
        Handling(Fate.PASSED, "its last seven digits: a longer number may be a person's"),
    ] = None
    logit_bias: Annotated[Annotated[dict[TokenId, Bias], Field(max_length=300)] | None, PASSED] = None
    logprobs: Annotated[bool | None, PASSED] = None
    top_logprobs: Annotated[Annotated[int, Field(ge=0, le=20), Integral] | None, PASSED] = None
    reasoning_effort: Annotated[Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None, PASSED] = (
        None
    )
    verbosity: Annotated[Literal["low", "medium", "high"] | None, PASSED] = None

    @field_validator("functions")
    @classmethod
    def _not_beside_tools(cls, functions: Any, info: ValidationInfo) -> Any:
        if functions and info.data.get("tools"):
            raise ValueError("either `tools` or `functions`, not both")
        return functions

    @field_validator("function_call")
    @classmethod
    def _of_functions(cls, choice: Any, info: ValidationInfo) -> Any:
        if choice is not None and not info.data.get("functions"):
            raise ValueError("only with `functions`")
        return choice

    def request(self, caching: CachePolicy, vendor: VendorFields = NONE) -> ChatRequest:
        """What a provider is asked that takes back those fields of its own. Raises RequestInvalid."""
        said = self.model_dump(exclude_none=True)
        passed = {name: said[name] for name in PASSED_ON if name in said}
        if "function_call" in said:
            passed["tool_choice"] = as_tool_choice(said["function_call"])
        tools = said.get("tools") or as_tools(said.get("functions", ()))
        messages = [sent(message, vendor) for message in as_tool_messages(said["messages"])]
        most = min((n for n in (self.max_completion_tokens, self.max_tokens) if n is not None), default=None)
        return ChatRequest(self.model, messages, tools, passed, most, self.n or 1, caching)


_BY_THEMSELVES = {"messages", "tools", "n"}
PASSED_ON = tuple(name for name in fields_with(Fate.PASSED, ChatCompletionCreate) if name not in _BY_THEMSELVES)
