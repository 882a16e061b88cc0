"""The messages of a chat request, by role, and how they are sent. Fields that nobody here knows are dropped.

Libraries keep notes of their own in messages, and answers come back with whatever a provider put there; a provider that
does not know them would refuse them. Gate: validation.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag

from app.api.chat_fields import PASSED, Fate, Handling, Refusing, dropped, translated
from app.api.schemas import NO_NUL, has_nul
from app.content.tool_arguments import NO_ARGUMENTS, says_nothing
from app.gateway.images import IMAGE_URL, require_public_address
from app.gateway.vendor_fields import ANY, VendorFields

MAX_TOOLS = 128
MAX_PARTS = 100  # of a message's content
MAX_DEPTH = 40  # levels of a schema, or of a vendor's field
Text = Annotated[str, StringConstraints(max_length=400_000, pattern=NO_NUL)]
FunctionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
CallId = Annotated[str, StringConstraints(max_length=8_000, pattern=NO_NUL)]  # as a provider gave it; it may be empty


def shallow(value: Any) -> Any:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
        level = [each for each in level if isinstance(each, dict | list)]
        if not level:
            return value
    raise ValueError(f"at most {MAX_DEPTH} levels")


def _vendors(value: Any) -> Any:
    if isinstance(value, dict | list):
        shallow(value)
    if has_nul(value):
        raise ValueError("the character NUL is not allowed")
    return value


Vendors = Annotated[Any, AfterValidator(_vendors)]
FROM_VENDOR = Handling(Fate.PASSED, "to the providers that need it back, which OpenAI does not", whole=True)


class Lenient(BaseModel):
    """A part of a message: unknown fields are dropped, and nothing is coerced."""

    model_config = ConfigDict(extra="ignore", strict=True, json_schema_extra={"additionalProperties": True})


BREAKPOINT = dropped("caching at the provider is left to it")


class TextPart(Lenient):
    type: Literal["text"]
    text: Annotated[Text, PASSED]
    prompt_cache_breakpoint: Annotated[Any, BREAKPOINT, Field(exclude=True)] = None


class RefusalPart(Lenient):
    type: Literal["refusal"]
    refusal: Annotated[Text, translated("to the message's `refusal`")]


class ImageUrl(Lenient):
    url: Annotated[
        str,
        StringConstraints(max_length=1_000_000, pattern=IMAGE_URL),
        AfterValidator(require_public_address),
        Handling(Fate.PASSED, "`data:image/…;base64,…`, or an https address, which the provider fetches"),
    ]
    detail: Annotated[Literal["auto", "low", "high", "original"] | None, PASSED] = None


class ImagePart(Lenient):
    type: Literal["image_url"]
    image_url: Annotated[
        ImageUrl, Handling(Fate.PASSED, "to models whose entry in config/models.toml says `images = true`")
    ]
    prompt_cache_breakpoint: Annotated[Any, BREAKPOINT, Field(exclude=True)] = None


NOT_TEXT = {
    "input_audio": "audio is not taken: it is billed apart and cannot be redacted",
    "file": "files are not taken: send their text",
}
IMAGE_ELSEWHERE = {"image_url": "images are taken in a user's messages only"}


def _form(content: Any) -> str:
    return "parts" if isinstance(content, list) else "text"


# Told apart first, so that what is wrong with a part is said of the part.
BY_FORM = Discriminator(_form)
AsText = Annotated[Text, Tag("text")]
Bounded = Field(max_length=MAX_PARTS)
UserPart = Annotated[TextPart | ImagePart, Field(discriminator="type")]
AssistantPart = Annotated[TextPart | RefusalPart, Field(discriminator="type")]
Texts = Annotated[AsText | Annotated[list[TextPart], Bounded, Tag("parts")], BY_FORM]
UserContent = Annotated[AsText | Annotated[list[UserPart], Bounded, Tag("parts")], BY_FORM]
AssistantContent = Annotated[AsText | Annotated[list[AssistantPart], Bounded, Tag("parts")], BY_FORM]
TEXT_ONLY = Refusing({**NOT_TEXT, **IMAGE_ELSEWHERE})
Name = Annotated[FunctionName | None, PASSED]


class SystemMessage(Lenient):
    role: Literal["system", "developer"]
    content: Annotated[Texts | None, TEXT_ONLY, PASSED] = None
    name: Name = None


class UserMessage(Lenient):
    role: Literal["user"]
    content: Annotated[UserContent | None, Refusing(NOT_TEXT), PASSED] = None
    name: Name = None


class CalledFunction(Lenient):
    name: Annotated[str, StringConstraints(max_length=256, pattern=NO_NUL), PASSED]  # whatever a model called
    arguments: Annotated[Text | None, Handling(Fate.PASSED, "no arguments as `{}`")] = None


class ToolCall(Lenient):
    id: Annotated[CallId | None, PASSED] = None
    type: Literal["function"] = "function"
    function: Annotated[CalledFunction, PASSED]
    extra_content: Annotated[Vendors, FROM_VENDOR] = None


class AssistantMessage(Lenient):
    """An answer as it was given."""

    role: Literal["assistant"]
    content: Annotated[Text | Annotated[list[AssistantPart], Field(max_length=MAX_PARTS)] | None, TEXT_ONLY, PASSED] = (
        None
    )
    name: Name = None
    refusal: Annotated[Text | None, PASSED] = None
    tool_calls: Annotated[
        Annotated[list[ToolCall], Field(max_length=MAX_TOOLS)] | None,
        Refusing({"custom": "calls of custom tools are not taken: tools are functions here"}),
        PASSED,
    ] = None
    function_call: Annotated[CalledFunction | None, translated("to `tool_calls`, unless they are there as well")] = None
    audio: Annotated[Any, dropped("no answer here has any"), Field(exclude=True)] = None
    reasoning_content: Annotated[Vendors, FROM_VENDOR] = None
    reasoning: Annotated[Vendors, FROM_VENDOR] = None
    reasoning_details: Annotated[Vendors, FROM_VENDOR] = None
    thinking_blocks: Annotated[Vendors, FROM_VENDOR] = None
    extra_content: Annotated[Vendors, FROM_VENDOR] = None


class ToolMessage(Lenient):
    role: Literal["tool"]
    content: Annotated[Texts | None, TEXT_ONLY, PASSED] = None
    tool_call_id: Annotated[CallId | None, PASSED] = None


class FunctionMessage(Lenient):
    """The result of a function, as it was told before there were tools."""

    role: Literal["function"]
    content: Annotated[Texts | None, TEXT_ONLY, translated("to the content of a `tool` message")] = None
    name: Annotated[FunctionName | None, translated("to the id of the call before it")] = None


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage, Field(discriminator="role")
]


def sent(message: dict[str, Any], vendor: VendorFields) -> dict[str, Any]:
    """A message without nulls, as a provider gets it."""
    if message["role"] != "assistant":
        return {**message, "content": message.get("content") or ""}
    left_out = (ANY.message - vendor.message) | {"function_call"}
    kept = {name: value for name, value in message.items() if name not in left_out and value != []}
    if isinstance(parts := kept.get("content"), list):
        refusals = [part["refusal"] for part in parts if part["type"] == "refusal"]
        kept["content"] = [part for part in parts if part["type"] == "text"] or ""
        kept |= {"refusal": "\n".join(refusals)} if refusals else {}
    if "tool_calls" in kept:
        kept["tool_calls"] = [_call(call, vendor) for call in kept["tool_calls"]]
    elif "refusal" not in kept:
        kept.setdefault("content", "")
    return kept


def _call(call: dict[str, Any], vendor: VendorFields) -> dict[str, Any]:
    kept = {name: value for name, value in call.items() if name not in ANY.call - vendor.call}
    if says_nothing(call["function"].get("arguments")):
        kept["function"] = {**call["function"], "arguments": NO_ARGUMENTS}
    return kept
