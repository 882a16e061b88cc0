"""What is taken to be written of a stream that its reader left: never less than was written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.gateway import received
from app.gateway.received import FAST_TOKENS_PER_S, NOTICED_WITHIN_S, Received


class Clock:
    now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(received, "time", made)
    return made


def _piece(text: str) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": text}}]}


def test_nothing_is_known_of_a_stream_that_has_not_begun(clock: Clock) -> None:
    assert Received().tokens_at_most() is None


def test_until_a_speed_is_seen_the_fastest_is_assumed(clock: Clock) -> None:
    so_far = Received()
    so_far.add(_piece("ab"))
    assert so_far.tokens_at_most() == 2 + FAST_TOKENS_PER_S * NOTICED_WITHIN_S


def test_every_text_of_a_piece_counts(clock: Clock) -> None:
    so_far = Received()
    call = {"index": 0, "id": "c", "function": {"name": "note", "arguments": '{"a": 1}'}}
    so_far.add({"choices": [{"delta": {"content": "é", "tool_calls": [call]}}, {"delta": {"refusal": "no"}}]})
    so_far.add({"choices": []})
    so_far.add({"choices": [{"delta": None}]})
    assert so_far.text_bytes == 2 + 1 + 4 + 8 + 2


@given(speed=st.integers(1, 900), pieces=st.integers(1, 400), stalled=st.floats(0, 30))
def test_never_less_than_a_steady_provider_has_written(speed: int, pieces: int, stalled: float) -> None:
    """`speed`: tokens a second, of two bytes each; the last piece is read late by `stalled` seconds."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(received, "time", clock)
        so_far = Received()
        for number in range(pieces):
            clock.now = 1_000 + number / speed
            so_far.add(_piece("ab"))
        clock.now += stalled
        written = pieces + speed * (stalled + NOTICED_WITHIN_S / 2)
        at_most = so_far.tokens_at_most()
        assert at_most is not None
        assert at_most >= written - 1 or speed > FAST_TOKENS_PER_S
