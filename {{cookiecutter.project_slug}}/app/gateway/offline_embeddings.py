"""Embeddings without a provider: words and their parts, hashed into a vector of unit length ("feature hashing").

Texts that share words, or parts of words, are near each other; nothing of their meaning is known. Deterministic: what
was stored yesterday is found today. After Weinberger et al., "Feature Hashing for Large Scale Multitask Learning"
(2009), with character trigrams as of fastText (Bojanowski et al., 2017).
"""

import math
import re
import struct
from base64 import b64encode
from typing import Any
from zlib import crc32

from anyio.lowlevel import checkpoint

Body = dict[str, Any]
USUAL_DIMENSIONS = 1_536
DIMENSIONS = {"offline-embedding-large-1": 3_072}  # as of the model whose name leads to it
WORD_WEIGHT, PART_WEIGHT = 1.0, 0.5
BYTES_PER_TOKEN = 4  # about what English has
_WORD = re.compile(r"\w+")


async def embedded(body: Body) -> Body:
    """The answer to a request, as a provider of OpenAI's interface gives it."""
    dimensions = body.get("dimensions") or DIMENSIONS.get(body["model"], USUAL_DIMENSIONS)
    data: list[Body] = []
    for index, text in enumerate(body["input"]):
        vector = _vector(text, dimensions)
        encoded = b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": encoded})
        await checkpoint()
    tokens = sum(len(text.encode()) // BYTES_PER_TOKEN + 1 for text in body["input"])
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": body["model"], "usage": usage}


def _vector(text: str, dimensions: int) -> list[float]:
    vector = [0.0] * dimensions
    for word in _WORD.findall(text.casefold()) or [text]:
        _add(vector, word, WORD_WEIGHT)
        edged = f"<{word}>"
        for start in range(len(edged) - 2):
            _add(vector, edged[start : start + 3], PART_WEIGHT)
    length = math.hypot(*vector)
    if not length:  # what cancelled itself out, in very few dimensions
        return [1.0, *vector[1:]]
    return [number / length for number in vector]


def _add(vector: list[float], feature: str, weight: float) -> None:
    """One place by the hash, and a sign by a bit of it that the place does not depend on."""
    hashed = crc32(feature.encode("utf-8", "replace"))
    vector[(hashed >> 1) % len(vector)] += weight if hashed & 1 else -weight
