"""What `POST /v1/responses` may be asked: OpenAI's Responses interface, without what needs stored state.

Nothing is stored here, no hosted tool is run and no picture has a price: each is refused where it stands, in one
sentence. What an item has beside the fields below is left out. Gate: cost, validation.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)

from app.api.chat_messages import MAX_TOOLS, CallId, FunctionName, Text
from app.api.chat_request import Label, Schema, StreamOptions, Tokens
from app.api.schemas import NO_NUL, Integral, Strict

MOST_ITEMS, MOST_PARTS = 1_000, 100
ONLY_TEXT = "only text is taken here (input_text, output_text, refusal): pictures, files and audio have no cap"
ONLY_ITEMS = (
    "only messages, function_call, function_call_output and reasoning items are taken: nothing is stored that an item "
    'could refer to, and no hosted tool is run; with "store": false a client sends its items whole'
)
ONLY_CHOICES = "none, auto, required or one function: hosted tools are not run here"
ONLY_FUNCTIONS = "only tools of the type function are taken: a provider's hosted tools are billed apart"
NO_STATE = "nothing is stored here: send the whole conversation as input"
NO_PROMPTS = "no prompt is stored here: send instructions and input"
NO_BACKGROUND = "nothing is stored that could be asked for later: leave it out, or use POST /v1/runs"
NO_HOSTED = "no hosted tool is run here, so there are no calls of one to count"


def _refused(why: str, *, but: object = None) -> BeforeValidator:
    """A field that this service has nothing for: it may be null, or say so."""

    def check(value: Any) -> Any:
        if value is not None and value is not but:  # 0 is equal to False
            raise ValueError(why)
        return value

    return BeforeValidator(check)


def _kind(value: Any) -> str:
    """The type of an item or of a part, by which it is read; a message may go without."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", "")
    return kind if isinstance(kind, str) else "message" if kind is None else ""


def _by_kind(code: str, why: str) -> Discriminator:
    return Discriminator(_kind, custom_error_type=code, custom_error_message=why)


class Item(BaseModel):
    """What stands in `input`. Ids, states and whatever a client or a provider adds are left out."""

    model_config = ConfigDict(extra="ignore", strict=True)


class InputTextPart(Item):
    type: Literal["input_text", "output_text"]
    text: Text


class InputRefusalPart(Item):
    type: Literal["refusal"]
    refusal: Text


Part = Annotated[
    Annotated[InputTextPart, Tag("input_text")]
    | Annotated[InputTextPart, Tag("output_text")]
    | Annotated[InputRefusalPart, Tag("refusal")],
    _by_kind("part", ONLY_TEXT),
]
Parts = Annotated[list[Part], Field(max_length=MOST_PARTS)]


def _as_parts(value: Any) -> Any:
    return [{"type": "input_text", "text": value}] if isinstance(value, str) else value


Content = Annotated[Parts, BeforeValidator(_as_parts, json_schema_input_type=Text | Parts)]


class InputMessage(Item):
    """A message: somebody's, or an answer sent back."""

    type: Literal["message"] | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: Content


class FunctionCall(Item):
    type: Literal["function_call"]
    call_id: CallId
    name: Annotated[str, StringConstraints(max_length=256, pattern=NO_NUL)]  # whatever a model called
    arguments: Text | None = None


class FunctionCallOutput(Item):
    type: Literal["function_call_output"]
    call_id: CallId
    output: Content


class ReasoningItem(Item):
    """Sent back by clients, and left out: it is a provider's own state, for which the chat interface has no place."""

    type: Literal["reasoning"]


InputItem = Annotated[
    Annotated[InputMessage, Tag("message")]
    | Annotated[FunctionCall, Tag("function_call")]
    | Annotated[FunctionCallOutput, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")],
    _by_kind("item", ONLY_ITEMS),
]


def _say_something(items: list[InputItem]) -> list[InputItem]:
    if all(isinstance(item, ReasoningItem) for item in items):
        raise ValueError("there has to be more than reasoning")
    return items


Items = Annotated[list[InputItem], Field(min_length=1, max_length=MOST_ITEMS), AfterValidator(_say_something)]


def _as_items(value: Any) -> Any:
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


Description = Annotated[str, StringConstraints(max_length=8_000, pattern=NO_NUL)]


class FunctionTool(Strict):
    type: Literal["function"]
    name: FunctionName
    description: Description | None = None
    parameters: Schema | None = None
    strict: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _is_function(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("type") != "function":
            raise ValueError(ONLY_FUNCTIONS)
        return value


class NamedFunction(Strict):
    type: Literal["function"]
    name: FunctionName


def _choice(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", "word")
    return kind if isinstance(kind, str) else ""


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("word")] | Annotated[NamedFunction, Tag("function")],
    Discriminator(_choice, custom_error_type="choice", custom_error_message=ONLY_CHOICES),
]


class PlainFormat(Strict):
    type: Literal["text", "json_object"]


class SchemaFormat(Strict):
    type: Literal["json_schema"]
    name: FunctionName
    schema_: Schema = Field(alias="schema")
    description: Description | None = None
    strict: bool | None = None


Format = Annotated[
    Annotated[PlainFormat, Tag("text")]
    | Annotated[PlainFormat, Tag("json_object")]
    | Annotated[SchemaFormat, Tag("json_schema")],
    _by_kind("format", "text, json_object or json_schema"),
]


class TextConfig(Strict):
    format: Format | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


Summary = Literal["auto", "concise", "detailed"]


class ReasoningConfig(Strict):
    effort: Literal["none", "minimal", "low", "medium", "high"] | None = None
    summary: Summary | None = Field(None, description="taken and left out: the chat interface has no summaries")
    generate_summary: Summary | None = Field(None, description="the older name of summary")


class ResponseCreate(Strict):
    model: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,119}$")]
    input: Annotated[Items, BeforeValidator(_as_items, json_schema_input_type=Text | Items)]
    instructions: Text | None = None
    max_output_tokens: Tokens | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = Field(None, description="whatever it says, nothing is stored, and the answer says so")
    metadata: Annotated[dict[Label, Label], Field(max_length=16)] | None = Field(
        None, description="given back with the answer and not passed on"
    )
    tools: Annotated[list[FunctionTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20), Integral] | None = None
    include: (
        Annotated[list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]], Field(max_length=10)]
        | None
    ) = Field(None, description="logprobs; encrypted reasoning is taken and left out, as there is none")
    # Taken, and left out.
    user: Annotated[str, StringConstraints(max_length=200, pattern=NO_NUL)] | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: Label | None = None
    service_tier: Literal["auto", "default"] | None = Field(None, description="faster service would be billed apart")
    truncation: Literal["auto", "disabled"] | None = Field(None, description="nothing is left out of a conversation")
    # What there is nothing for.
    previous_response_id: Annotated[None, _refused(NO_STATE)] = None
    conversation: Annotated[None, _refused(NO_STATE)] = None
    prompt: Annotated[None, _refused(NO_PROMPTS)] = None
    background: Annotated[Literal[False] | None, _refused(NO_BACKGROUND, but=False)] = None
    max_tool_calls: Annotated[None, _refused(NO_HOSTED)] = None

    @property
    def with_logprobs(self) -> bool:
        return self.top_logprobs is not None or "message.output_text.logprobs" in (self.include or ())
