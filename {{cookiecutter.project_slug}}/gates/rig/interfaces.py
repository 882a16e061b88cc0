"""The interfaces through which models are asked, each in the same way: for proofs of what holds in all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from gates.rig import chats, responses
from gates.rig.chats import Chatted, asked_chat
from gates.rig.people import Person
from gates.rig.provider import Answer, Script, says
from gates.rig.responses import Asks, asked_response
from gates.rig.vectors import NAME, vectors
from gates.rig.world import World

PATH = "/v1/embeddings"


@dataclass(frozen=True)
class Interface:
    path: str
    ask: Asks
    good: Answer  # what the provider says where all is well
    streams: Sequence[bool]
    model: str  # as callers name it
    feature: str  # in usage and switches
    made: str  # what an answer calls itself

    def text(self, text: str) -> dict[str, Any]:
        """What a request says for this text to reach the model."""
        return {"texts": [text]} if self.path == PATH else {"messages": [{"role": "user", "content": text}]}


def asked_vectors(
    world: World,
    who: Person,
    script: Script,
    *,
    stream: bool = False,
    headers: dict[str, str] | None = None,
    texts: Sequence[str] = (),
    **more: Any,
) -> Chatted:
    """Vectors of the script's task and of more texts. There are no streams of them: `stream` has to be False."""
    assert not stream
    said = {"model": NAME, "input": [*([] if script.token in "".join(texts) else [script.task()]), *texts], **more}
    answer = world.service.call(who, "POST", PATH, json=said, headers=headers or {})
    body = answer.json()
    return Chatted(answer.status_code, dict(answer.headers), code=body.get("error", {}).get("code", ""), body=body)


CHAT = Interface(chats.PATH, asked_chat, says("Good day."), (False, True), "standard", "chat", "chat.completion")
RESPONSES = Interface(responses.PATH, asked_response, says("Good day."), (False, True), "standard", "chat", "response")
EMBEDDINGS = Interface(PATH, asked_vectors, vectors, (False,), NAME, "embeddings", "list")
IN_EVERY_INTERFACE = pytest.mark.parametrize(
    "interface", [CHAT, RESPONSES, EMBEDDINGS], ids=["chat", "responses", "embeddings"]
)
IN_EITHER_INTERFACE = pytest.mark.parametrize("ask", [asked_chat, asked_response])  # those of conversations
