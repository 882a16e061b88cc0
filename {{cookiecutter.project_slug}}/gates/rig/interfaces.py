"""The interfaces through which models are asked, each in the same way: for proofs of what holds in all of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from gates.rig import chats, responses
from gates.rig.chats import Chatted, asked_chat
from gates.rig.formats import Reply
from gates.rig.people import Person
from gates.rig.provider import Answer, Body, Script, says
from gates.rig.responses import Asks, asked_response
from gates.rig.vectors import NAME, vectors, without_usage
from gates.rig.world import World

PATH = "/v1/embeddings"
LATE_S = 0.2


@dataclass(frozen=True)
class Interface:
    path: str
    ask: Asks
    good: Answer  # what the provider says where all is well
    costly: Answer  # what it says late and without its usage, so that it is booked at its worst case
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


def _costly_vectors(body: Body) -> Reply:
    return replace(without_usage(body), delay=LATE_S)


CHAT = Interface(
    path=chats.PATH,
    ask=asked_chat,
    good=says("Good day."),
    costly=replace(says("x"), usage=None, delay=LATE_S),
    streams=(False, True),
    model="standard",
    feature="chat",
    made="chat.completion",
)
RESPONSES = replace(CHAT, path=responses.PATH, ask=asked_response, made="response")
EMBEDDINGS = Interface(
    path=PATH,
    ask=asked_vectors,
    good=vectors,
    costly=_costly_vectors,
    streams=(False,),
    model=NAME,
    feature="embeddings",
    made="list",
)
IN_EVERY_INTERFACE = pytest.mark.parametrize(
    "interface", [CHAT, RESPONSES, EMBEDDINGS], ids=["chat", "responses", "embeddings"]
)
IN_EITHER_INTERFACE = pytest.mark.parametrize("ask", [asked_chat, asked_response])  # those of conversations
