"""Images in a chat request: where they may lie, and what they may cost at most. Gate: cost, validation.

An image is not text: nothing in it is redacted, which is why a model's entry has to allow them. Its base64 says nothing
about its price either; providers charge by its size in pixels.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from app.content.json_pointer import json_pointer
from app.errors import RequestInvalid

Body = dict[str, Any]
DATA_URL = r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+={0,2}"
IMAGE_URL = rf"^(?:{DATA_URL}|https://[^\x00-\x20@/?#\\]+(?:[/?#][^\x00-\x20]*)?)$"
_DATA_URL = re.compile(DATA_URL)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PRIVATE = (".local", ".internal", ".localhost", ".home.arpa", ".lan")
# The most that a model charges for one, by the vendors' pages. OpenAI, "Images and vision": gpt-4o-mini 2,833 and 5,667
# for each of at most eight tiles, the other tiled models less than 1,500; by patches at most 1,536 x 2.46, with the
# detail `original` 10,000 x 2.46. Anthropic, "Vision": 4,784, whatever detail is asked for. Google, "Image
# understanding": 258 for each of at most sixteen tiles.
MAX_TOKENS, MAX_TOKENS_LOW = 48_169, 4_784


def require_public_address(url: str) -> str:
    """An image's address, which the provider will fetch. Raises ValueError for one inside somebody's network."""
    if url.startswith("data:"):
        return url
    host = (urlsplit(url).hostname or "").rstrip(".")
    name, _, last = host.rpartition(".")
    # A last label of digits makes an address of the whole, in whatever spelling (WHATWG URL, "ends in a number").
    if not name or ":" in host or _NUMBER.fullmatch(last) or host.endswith(_PRIVATE):
        raise ValueError("the address of an image needs a public name, as in https://example.com/image.png")
    return url


def is_image(value: Any) -> bool:
    """Whether this is an image itself: text in base64 that must arrive byte for byte."""
    return isinstance(value, str) and _DATA_URL.fullmatch(value) is not None


def image_tokens(messages: Sequence[Body]) -> int:
    """The most that all images of a conversation are charged as."""
    return sum(MAX_TOKENS_LOW if image.get("detail") == "low" else MAX_TOKENS for _, image in _images(messages))


def image_bytes(messages: Sequence[Body]) -> int:
    """How much of a conversation is images themselves, which no tokenizer reads."""
    return sum(len(image["url"]) for _, image in _images(messages) if is_image(image["url"]))


def refuse_images(messages: Sequence[Body], tier: str) -> None:
    """Raises RequestInvalid for a conversation with images, at a tier that takes none."""
    for pointer, _ in _images(messages):
        reason = f"the models of tier {tier} take no images here: remove the image"
        raise RequestInvalid(pointers=[(pointer, reason)])


def _images(messages: Sequence[Body]) -> Iterator[tuple[str, Body]]:
    """Each `image_url`, with the JSON Pointer to its part."""
    for at, message in enumerate(messages):
        content = message.get("content")
        for place, part in enumerate(content if isinstance(content, list) else ()):
            if part["type"] == "image_url":
                yield json_pointer("messages", at, "content", place), part["image_url"]
