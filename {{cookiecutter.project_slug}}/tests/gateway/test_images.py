"""Images in a chat request: which addresses may be fetched, and what they are counted as."""

import re
from typing import Any

import pytest

from app.errors import RequestInvalid
from app.gateway.catalog import Catalog, ModelEntry
from app.gateway.images import (
    IMAGE_URL,
    MAX_TOKENS,
    MAX_TOKENS_LOW,
    image_bytes,
    image_tokens,
    is_image,
    refuse_images,
    require_public_address,
)

PNG = "data:image/png;base64,iVBORw0KGgo="
TEXT = {"type": "text", "text": "What is it?"}


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/a.png", "https://ada:x@example.com/a.png", "https://ada@example.com", "ftp://example.com/a",
        "https://", "https:///a.png", "https://example.com/a b.png", "https://example.com\\@10.0.0.1/", "file:///etc/a",
        "data:text/html;base64,PGE+", "data:image/svg+xml;base64,PGE+", "data:image/png,a", f"{PNG} x", f"x{PNG}",
        "https://example.com/a\n", "data:image/png;base64,",
    ],
)  # fmt: skip
def test_what_is_no_address_of_an_image_is_refused(url: str) -> None:
    assert re.fullmatch(IMAGE_URL.removeprefix("^").removesuffix("$"), url) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://localhost/a", "https://metadata/a", "https://169.254.169.254/latest", "https://[::1]/a",
        "https://printer.local/a", "https://db.internal/a", "https://db.internal./a", "https://2130706433/a",
        "https://127.1/a", "https://0x7f.0.0.1/a", "https://a.localhost:8000/a", "https://8.8.8.8/a",
    ],
)  # fmt: skip
def test_no_address_inside_a_network_is_passed_on(url: str) -> None:
    with pytest.raises(ValueError, match="a public name"):
        require_public_address(url)


@pytest.mark.parametrize("url", [PNG, "https://example.com/a.png?b=c#d", "https://images.example.com:8443/a"])
def test_a_public_address_and_an_image_itself_are_taken(url: str) -> None:
    assert re.fullmatch(IMAGE_URL, url)
    assert require_public_address(url) == url


def test_an_image_counts_by_its_detail_and_not_by_its_bytes() -> None:
    image = {"type": "image_url", "image_url": {"url": PNG.replace("iVBO", "A" * 10_000 + "iVBO")}}
    low = {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "x"},
        {"role": "user", "content": [TEXT, image, low]},
    ]
    assert image_tokens(messages) == MAX_TOKENS + MAX_TOKENS_LOW
    assert image_bytes(messages) == 2 * len(PNG) + 10_000
    assert (image_tokens(messages[:1]), image_bytes(messages[:1])) == (0, 0)


def test_a_tier_without_images_names_the_first() -> None:
    images = [{"type": "image_url", "image_url": {"url": PNG}} for _ in range(2)]
    messages: list[dict[str, Any]] = [{"role": "system", "content": "x"}, {"role": "user", "content": [TEXT, *images]}]
    with pytest.raises(RequestInvalid) as refused:
        refuse_images(messages, "small")
    [(pointer, reason)] = refused.value.pointers
    assert pointer == "/messages/1/content/1"
    assert reason == "the models of tier small take no images here: remove the image"
    refuse_images(messages[:1], "small")


def test_only_an_image_itself_is_left_as_it_is() -> None:
    assert is_image(PNG)
    assert not is_image(f"{PNG} ada@example.com")
    assert not is_image("https://example.com/a.png")


def _catalog(provider: str, **images: bool | None) -> Catalog:
    tiers = {tier: ModelEntry(model=f"m-{tier}", images=taken) for tier, taken in images.items()}
    tiers["standard"] = tiers["standard"].model_copy(update={"fallbacks": tuple(images)[1:]})
    return Catalog(provider, tiers)


@pytest.mark.parametrize(
    ("catalog", "taken"),
    [
        (_catalog("openai", standard=True), True),
        (_catalog("openai", standard=None), False),
        (_catalog("openai", standard=True, reserve=None), False),
        (_catalog("openai", standard=True, reserve=True), True),
        (_catalog("offline", standard=True), False),
    ],
)
def test_a_tier_takes_images_when_all_its_models_say_so(catalog: Catalog, taken: bool) -> None:
    assert catalog.takes_images("standard") is taken
