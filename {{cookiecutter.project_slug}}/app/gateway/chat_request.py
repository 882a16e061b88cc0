"""A chat request, as it is asked for and as each model of its tier gets it. Gate: cost, validation."""

from dataclasses import dataclass, field
from typing import Any

from app.gateway.allowance import Allowance
from app.gateway.cache import CachePolicy
from app.gateway.chat_redaction import Body, hidden_chat
from app.gateway.images import image_bytes, image_tokens
from app.gateway.metered import MESSAGE_OVERHEAD_TOKENS, Bill, MeteredModel
from app.gateway.routing import Look


@dataclass(frozen=True)
class ChatRequest:
    """What is asked, once it has been found valid. `parameters` go to the provider as they are."""

    model: str  # a name of config/models.toml, or a tier's
    messages: list[Body]
    tools: list[Body] = field(default_factory=list)
    parameters: Body = field(default_factory=dict)
    max_tokens: int | None = None  # for what can be read of each of `choices`
    choices: int = 1
    caching: CachePolicy = field(default_factory=CachePolicy)


class SentChat:
    """A request as providers get it, whichever of them it will be."""

    def __init__(self, request: ChatRequest) -> None:
        said, self.placeholders = hidden_chat(request.messages, request.tools, request.parameters)
        self._asked, self._choices = request.max_tokens, request.choices
        several = {"n": request.choices} if request.choices > 1 else {}
        self.said: Body = {**said, **several, "max_completion_tokens": self._asked}
        # A byte-level tokenizer makes at most one token of a byte; schemas and formats of answers are read as well.
        pieces = len(request.messages) + len(request.tools) + 1
        self._input_bound = len(str(said).encode()) + MESSAGE_OVERHEAD_TOKENS * pieces
        self._input_bound += image_tokens(said["messages"]) - image_bytes(said["messages"])

    @property
    def _effort(self) -> str | None:
        effort: str | None = self.said.get("reasoning_effort")
        return effort

    def allowance(self, model: MeteredModel) -> Allowance:
        return model.allowance(self._asked, self._effort)

    def dropped(self, model: MeteredModel) -> frozenset[str]:
        return model.not_taken(self._effort) & self.said.keys()

    def bill(self, model: MeteredModel) -> Bill:
        allowed = self.allowance(model)
        return Bill(self._input_bound, allowed.tokens * self._choices, unseen=allowed.reasoning * self._choices)

    def body(self, model: MeteredModel, *, streamed: bool = False) -> Body:
        """The request with what that model takes, and as long an answer as it may give."""
        dropped = self.dropped(model)
        taken = {name: value for name, value in self.said.items() if name not in dropped}
        stream = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
        return {**taken, "max_completion_tokens": self.allowance(model).tokens, "model": model.name, **stream}


def look_at(request: ChatRequest) -> Look:
    """What the last person to speak wants, and how much there is to read for it."""
    texts = [(each["role"], _text(each.get("content"))) for each in request.messages]
    wanted = next((text for role, text in reversed(texts) if role == "user"), "")
    return Look(wanted, sum(len(text) for _, text in texts) - len(wanted), len(request.tools))


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content or ())
