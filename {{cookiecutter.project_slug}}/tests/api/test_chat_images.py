"""Images in chats: to the models that take them, held for as what they may cost, and refused elsewhere."""

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from app.gateway.images import MAX_TOKENS, MAX_TOKENS_LOW
from gates.rig.chats import PATH
from gates.rig.databases import NewDatabase
from gates.rig.formats import Reply
from gates.rig.people import Person
from gates.rig.provider import Script, says
from gates.rig.world import INPUT_USD_PER_MTOK, World, models, opened

# Digits enough for a card's number, which redaction would replace in a text.
IMAGE = "data:image/png;base64," + "4111111111111111/" * 3_000 + "AAA="


def _with_a_seeing_tier(text: str) -> str:
    """The catalogue with a second tier, whose model takes images."""
    line = next(line for line in text.splitlines() if line.startswith("standard = "))
    second = line.replace("standard =", "seeing =").replace("probe-model-1", "probe-model-3")
    return text.replace(line, f"{line}\n{second.replace(' }', ', images = true }')}")


@pytest.fixture(scope="module")
def world(new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("images")
    with opened(new_sqlite(), folder, catalogue=_with_a_seeing_tier(models())) as made:
        yield made


@pytest.fixture(scope="module")
def who(world: World) -> Person:
    return world.people(["probe_chatter"])[0]


def _asked(
    world: World, who: Person, tier: str, *parts: dict[str, Any], reply: Reply | None = None
) -> tuple[Any, Script]:
    script = world.model.script(reply or says("A cat."))
    content = [{"type": "text", "text": script.task("What is it?")}, *parts]
    body = {"model": tier, "messages": [{"role": "user", "content": content}]}
    return world.service.call(who, "POST", PATH, json=body), script


def _image(url: str = IMAGE, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def test_an_image_reaches_a_model_that_takes_it_byte_for_byte(world: World, who: Person) -> None:
    answer, script = _asked(world, who, "seeing", _image(detail="low"), _image("https://example.com/a.png"))
    assert answer.status_code == 200, answer.text
    [_, *parts] = script.requests[0]["messages"][0]["content"]
    assert parts == [_image(detail="low"), _image("https://example.com/a.png")]


def test_elsewhere_it_is_refused_in_a_sentence(world: World, who: Person) -> None:
    answer, script = _asked(world, who, "standard", _image())
    assert answer.status_code == 422, answer.text
    error = answer.json()["error"]
    assert error["param"] == "/messages/0/content/1"
    assert "the models of tier standard take no images here: remove the image" in error["message"]
    assert script.seen == []


def test_it_is_held_for_as_tokens_and_not_as_its_bytes(world: World, who: Person) -> None:
    """Where the provider does not say what was used, all that was held is charged."""

    def held(*parts: dict[str, Any]) -> Decimal:
        answer, _ = _asked(world, who, "seeing", *parts, reply=replace(says("A cat."), usage=None))
        return Decimal(answer.headers["x-cost-usd"])

    price = Decimal(INPUT_USD_PER_MTOK) / 1_000_000
    without = held()
    for parts, tokens in (
        ([_image("https://example.com/a.png")], MAX_TOKENS),
        ([_image(detail="low"), _image("https://example.com/a.png", detail="low")], 2 * MAX_TOKENS_LOW),
    ):
        assert tokens * price <= held(*parts) - without < (tokens + 500) * price


@pytest.mark.parametrize("url", ["http://example.com/a.png", "https://169.254.169.254/a", "https://a@example.com/"])
def test_an_address_that_nobody_should_fetch_is_refused(world: World, who: Person, url: str) -> None:
    answer, script = _asked(world, who, "seeing", _image(url))
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["param"] == "/messages/0/content/1/image_url/url"
    assert script.seen == []
