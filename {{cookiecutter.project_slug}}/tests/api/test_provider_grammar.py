"""Any answer of a provider ends as JSON that everybody reads, or as an error with a name, and the books are right.

Through the whole service, over HTTP on both sides. `PROVIDER_EXAMPLES=2000` draws more than a test run has time for.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import CATALOGUE
from app.gateway.metered import ASSUMED_CONTEXT_TOKENS, PROVIDERS_OWN_TOKENS
from gates.rig.databases import NewDatabase
from gates.rig.formats import Reply
from gates.rig.people import Person
from gates.rig.world import CONTEXT_TOKENS, World, final, opened
from tests.api.provider_grammar import STREAM, WHOLE

EXAMPLES = int(os.environ.get("PROVIDER_EXAMPLES", "25"))
WITHIN: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck), "print_blob": True}
MAX_OUTPUT = 900
SAYS_DATA = {"role": "assistant", "content": "Write to ada@example.com."}  # so that something is put back


@pytest.fixture(scope="module")
def world(new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with opened(new_sqlite(), tmp_path_factory.mktemp("grammar")) as made:
        yield made


@pytest.fixture(scope="module")
def who(world: World) -> Person:
    return world.people(["probe_reader", "probe_chatter"])[0]


def _strict(text: str | bytes) -> Any:
    """The document, which has to be one for every reader and every writer. Raises ValueError."""

    def no_json(name: str) -> None:
        raise ValueError(name)

    document = json.loads(text, parse_constant=no_json)
    json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    return document


def _has_a_name(error: dict[str, Any]) -> None:
    assert error["code"] in CATALOGUE
    assert error["code"] != "internal.unexpected", error


def _asked(world: World, who: Person, raw: bytes, *, stream: bool) -> list[dict[str, Any]]:
    """What the client got: answers or chunks; nothing where it got an error with a name."""
    media_type = "text/event-stream" if stream else "application/json"
    script = world.model.script(Reply(raw=raw, media_type=media_type))
    messages = [SAYS_DATA, {"role": "user", "content": script.task()}]
    body = {"model": "standard", "stream": stream, "messages": messages}
    answer = world.service.call(who, "POST", "/v1/chat/completions", json=body)
    if answer.status_code != 200 or not stream:
        document = _strict(answer.content)
        if answer.status_code == 200:
            return [document]
        _has_a_name(document["error"])
        return []
    *events, nothing = answer.content.decode().split("\n\n")
    assert nothing == ""
    if events[-1] == "data: [DONE]":
        return [_strict(event.removeprefix("data: ")) for event in events[:-1]]
    for event in events[:-1]:
        _strict(event.removeprefix("data: "))
    _has_a_name(_strict(events[-1].removeprefix("data: "))["error"])
    return []


def _require_books(world: World, who: Person, least: tuple[int, int] | None) -> None:
    """Nothing is held, and the newest call costs no more than it can have used, nor less than `least` tokens."""
    columns = "state, held_micro, cost_micro, input_tokens, output_tokens"
    query = f"SELECT {columns} FROM model_calls WHERE member_id = ? ORDER BY id DESC LIMIT 1"  # noqa: S608
    [(state, held, cost, sent, written)] = world.sql(query, who.member_id)
    assert world.sql("SELECT count(*) FROM model_calls WHERE state = 'held'") == [(0,)]
    assert world.sql("SELECT count(*) FROM budget_windows WHERE held_micro <> 0") == [(0,)]
    if state == "disputed":
        assert cost == held
    assert cost <= held + _micro(PROVIDERS_OWN_TOKENS, max(CONTEXT_TOKENS, ASSUMED_CONTEXT_TOKENS))
    assert 0 <= written <= MAX_OUTPUT + CONTEXT_TOKENS
    assert sent >= 0
    if least is not None:
        assert cost >= min(held, _micro(*least))


def _micro(sent: int, written: int) -> int:
    return int((World.price((sent, written)) * 1_000_000).to_integral_value("ROUND_CEILING"))


def _reported(answers: list[dict[str, Any]]) -> tuple[int, int] | None:
    """The most that the client was shown as used, where it was shown counts at all."""
    usages = [answer["usage"] for answer in answers if isinstance(answer.get("usage"), dict)]
    pairs = [tuple(usage.get(name) for name in ("prompt_tokens", "completion_tokens")) for usage in usages]
    counts = [pair for pair in pairs if all(type(n) is int and n >= 0 for n in pair)]
    return (max(n for n, _ in counts), max(n for _, n in counts)) if counts else None


@settings(max_examples=EXAMPLES, **WITHIN)
@given(raw=WHOLE)
def test_a_whole_answer_is_read_or_refused(world: World, who: Person, raw: bytes) -> None:
    """fault 13, 39"""
    answers = _asked(world, who, raw, stream=False)
    for choice in (choice for answer in answers for choice in answer["choices"]):
        assert isinstance(choice["message"], dict)
    _require_books(world, who, _reported(answers))


@settings(max_examples=EXAMPLES, **WITHIN)
@given(raw=STREAM)
def test_a_stream_is_passed_on_or_ended(world: World, who: Person, raw: bytes) -> None:
    """fault 3, 4, 13, 39"""
    answers = _asked(world, who, raw, stream=True)
    for choice in (choice for answer in answers for choice in answer["choices"]):
        assert isinstance(choice["delta"], dict)
    _require_books(world, who, _reported(answers))


@settings(max_examples=max(EXAMPLES // 4, 1), **WITHIN)
@given(raw=WHOLE, again=st.booleans())
def test_an_agent_goes_on_or_ends(world: World, who: Person, raw: bytes, again: bool) -> None:
    """fault 6, 13, 39, 40"""
    reply = Reply(raw=raw)
    ran = world.run(who, *([reply, reply] if again else [reply]), final())
    if ran.state["state"] == "failed":
        _has_a_name(ran.state["error"])
    _strict(json.dumps(ran.state))
    _require_books(world, who, None)
