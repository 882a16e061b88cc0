"""A piece of a stream that says nothing is passed over: the answer goes on, and costs what it costs (faults 3, 4)."""

from collections.abc import Iterator

import pytest

from gates.rig.chats import asked_chat
from gates.rig.databases import NewDatabase
from gates.rig.formats import Reply, stream
from gates.rig.people import Person
from gates.rig.provider import says
from gates.rig.world import World, opened


@pytest.fixture(scope="module")
def world(new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with opened(new_sqlite(), tmp_path_factory.mktemp("silent")) as made:
        yield made


@pytest.fixture(scope="module")
def who(world: World) -> Person:
    return world.people(["probe_chatter"])[0]


@pytest.mark.parametrize(
    "piece",
    [
        b": keep-alive\n\n", b"event: ping\ndata: {}\n\n", b"id: 5\n\n", b"retry: 10\n\n", b"data:\n\n",
        b"data: null\n\n",
        b'data: {"choices": null, "usage": null}\n\n', b'data: {"choices": [{"index": 0, "delta": ""}]}\n\n',
        b'data: {"error": {"message": null, "code": null}, "choices": []}\n\n',
        b'data: {"error": {}, "choices": []}\n\n',
    ],
)  # fmt: skip
def test_the_answer_goes_on_after_a_piece_that_says_nothing(world: World, who: Person, piece: bytes) -> None:
    """fault 3, 4: an error in mid-answer, the worst case booked, and the breaker nearer to its end."""
    first, *others = stream("openai", says("Good day."), {"stream_options": {"include_usage": True}})
    script = world.model.script(Reply(raw=b"".join([first, piece, *others]), media_type="text/event-stream"))
    answer = asked_chat(world, who, script, stream=True)
    assert (answer.code, answer.text) == ("", "Good day.")
    rows = world.sql("SELECT state, input_tokens, output_tokens FROM model_calls WHERE member_id = ?", who.member_id)
    assert set(rows) == {("settled", 12, 5)}


def test_an_error_that_says_anything_still_ends_the_answer(world: World) -> None:
    [who] = world.people(["probe_chatter"])
    first, *others = stream("openai", says("Good day."), {"stream_options": {"include_usage": True}})
    piece = b'data: {"error": {"message": null, "code": 502}, "choices": []}\n\n'
    script = world.model.script(Reply(raw=b"".join([first, piece, *others]), media_type="text/event-stream"))
    assert asked_chat(world, who, script, stream=True).code == "provider.unavailable"
