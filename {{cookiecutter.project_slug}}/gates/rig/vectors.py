"""Embeddings as a provider gives them: a model of the catalogue, and the answer to a request."""

import json
import struct
from base64 import b64encode
from collections.abc import Sequence

from gates.rig.formats import Reply
from gates.rig.provider import Body
from gates.rig.world import ONE_ATTEMPT, models

NAME = "text-embedding-3-small"  # as the requests of `make matrix` and `make fuzz` name it
USD_PER_MTOK = 1
USAGE = (12, 0)  # input and output tokens


def catalogue(resilience: str = ONE_ATTEMPT, *, tiers: Sequence[str] = ("standard",)) -> str:
    """The models of the rig, with one for embeddings."""
    return f"{models(resilience, tiers=tiers)}[embeddings.openai]\n{NAME} = {{ input_usd_per_mtok = {USD_PER_MTOK} }}\n"


def vector(text: str, dimensions: int = 4) -> list[float]:
    """Another one for each text, of numbers that 32 bits hold exactly."""
    return [float(len(text)), float(sum(map(ord, text)) % 1_000), *[0.5] * (dimensions - 2)]


def encoded(numbers: list[float]) -> str:
    """base64 of 32-bit floats, little-endian, as OpenAI's clients ask for."""
    return b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def answer(body: Body, usage: Body | None, *, as_floats: bool = False) -> Body:
    """One vector for each text; `as_floats` gives numbers whatever was asked for, as some servers do."""
    as_base64 = body.get("encoding_format") == "base64" and not as_floats
    data = []
    for index, text in enumerate(body["input"]):
        numbers = vector(text, body.get("dimensions") or 4)
        value = encoded(numbers) if as_base64 else numbers
        data.append({"object": "embedding", "index": index, "embedding": value})
    told = {"object": "list", "data": data, "model": body["model"]}
    return told if usage is None else told | {"usage": usage}


def vectors(body: Body) -> Reply:
    """What a proof's provider answers a request for embeddings with."""
    usage = {"prompt_tokens": USAGE[0], "total_tokens": sum(USAGE)}
    return Reply(raw=json.dumps(answer(body, usage)).encode(), usage=USAGE)


def without_usage(body: Body) -> Reply:
    return Reply(raw=json.dumps(answer(body, None)).encode(), usage=None)
