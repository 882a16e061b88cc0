"""Vectors as they are sent: 32-bit floats in base64, or a list of numbers; a provider may answer either way.

In between a vector is the bytes of its floats, the least significant first, as OpenAI's clients read them.
"""

import math
import struct
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Mapping
from typing import Any, Literal

from anyio.lowlevel import checkpoint
from pydantic_ai.exceptions import UnexpectedModelBehavior

Vector = bytes
Encoding = Literal["float", "base64"]
BYTES_PER_FLOAT = 4
MAX_DIMENSIONS = 20_000


async def vectors_of(answer: Mapping[str, Any], count: int) -> list[Vector]:
    """The vectors of an answer, in the order of the texts. Others get their turn between two of them.

    Raises UnexpectedModelBehavior unless there are so many, each finite and all of one length."""
    data = answer.get("data")
    if not isinstance(data, list) or len(data) != count or not all(isinstance(item, dict) for item in data):
        raise UnexpectedModelBehavior("not one embedding for each text")
    by_index: dict[int, Vector] = {}
    for at, item in enumerate(data):
        index = item.get("index", at)
        if type(index) is not int or not 0 <= index < count:
            raise UnexpectedModelBehavior("an embedding of no text")
        by_index[index] = _vector(item.get("embedding"))
        await checkpoint()
    if len(by_index) < count or len({len(vector) for vector in by_index.values()}) != 1:
        raise UnexpectedModelBehavior("embeddings that do not belong together")
    return [by_index[index] for index in range(count)]


def _vector(told: Any) -> Vector:
    vector = b""
    try:
        match told:
            case str():
                vector = b64decode(told, validate=True)
            case list() if len(told) <= MAX_DIMENSIONS and all(type(number) in {int, float} for number in told):
                vector = struct.pack(f"<{len(told)}f", *told)
        numbers = floats(vector)
    except (NotBase64, ValueError, struct.error, OverflowError):
        numbers = ()
    if not 0 < len(numbers) <= MAX_DIMENSIONS or not all(map(math.isfinite, numbers)):
        raise UnexpectedModelBehavior("no embedding")
    return vector


def floats(vector: Vector) -> tuple[float, ...]:
    """Raises struct.error for what is no whole number of floats."""
    return struct.unpack(f"<{len(vector) // BYTES_PER_FLOAT}f", vector)


def written(vector: Vector, encoding: Encoding) -> str | list[float]:
    """As a caller asked for it."""
    return b64encode(vector).decode() if encoding == "base64" else list(floats(vector))
