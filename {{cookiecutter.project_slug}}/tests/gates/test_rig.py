"""The rig itself: a counterpart that is wrong would make every proof that stands on it worthless."""

import base64
import json
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anthropic
import httpx2
import openai
import pytest

from gates.rig.canaries import Canaries
from gates.rig.clock import Clock
from gates.rig.formats import Reply
from gates.rig.names import scripted
from gates.rig.plain_http import PLAIN
from gates.rig.provider import Provider, calls, fault, provider, says, status
from gates.rig.sink import METADATA, sink

ASK: list[Any] = [{"role": "user", "content": "hello"}]


def _openai(stub: Provider) -> openai.OpenAI:
    return openai.OpenAI(api_key="sk-test-only", base_url=stub.url, max_retries=0, timeout=1)


def _anthropic(stub: Provider) -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key="sk-test-only", base_url=stub.url.removesuffix("/v1"), max_retries=0, timeout=1)


def _ask_openai(stub: Provider) -> Any:
    with _openai(stub) as client:  # closed here: a connection left to the collector fails whichever test it meets
        return client.chat.completions.create(model="m", messages=ASK)


def _ask_anthropic(stub: Provider) -> Any:
    with _anthropic(stub) as client:
        return client.messages.create(model="m", max_tokens=9, messages=ASK)


def test_openai_s_own_client_reads_text_calls_and_usage(model_provider: Provider) -> None:
    model_provider.answers(says("hi"), calls("look", {"a": 1}))
    first, second = _ask_openai(model_provider), _ask_openai(model_provider)
    assert (first.choices[0].message.content, first.usage.total_tokens) == ("hi", 17)
    assert second.choices[0].message.tool_calls[0].function.arguments == '{"a": 1}'
    assert second.choices[0].finish_reason == "tool_calls"


def test_anthropic_s_own_client_reads_text_calls_and_usage(model_provider: Provider) -> None:
    model_provider.answers(says("hi"), calls("look", {"a": 1}))
    first, second = _ask_anthropic(model_provider), _ask_anthropic(model_provider)
    assert (first.content[0].text, first.usage.output_tokens) == ("hi", 5)
    assert (second.content[0].input, second.stop_reason) == ({"a": 1}, "tool_use")


def test_both_clients_read_streams(model_provider: Provider) -> None:
    reply = replace(calls("look", {"a": 1}), text="a longer text in pieces")
    model_provider.answers(reply)
    options: Any = {"stream": True, "stream_options": {"include_usage": True}}
    with _openai(model_provider) as client:
        chunks = list(client.chat.completions.create(model="m", messages=ASK, **options))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "a longer text in pieces"
    assert chunks[-1].usage.total_tokens == 17
    with (
        _anthropic(model_provider) as other,
        other.messages.stream(model="m", max_tokens=9, messages=ASK) as stream,
    ):
        message = stream.get_final_message()
    assert (message.content[0].text, message.content[1].input) == (text, {"a": 1})  # type: ignore[union-attr]
    assert message.usage.output_tokens == 5


@pytest.mark.parametrize("ask", [_ask_openai, _ask_anthropic])
@pytest.mark.parametrize("code", [400, 401, 403, 413, 429, 500, 503, 529])
def test_failures_reach_the_clients_as_what_they_are(model_provider: Provider, ask: Any, code: int) -> None:
    model_provider.answers(status(code, kind="insufficient_quota", retry_after="7"))
    with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)) as failure:
        ask(model_provider)
    told: Any = failure.value
    assert told.status_code == code
    assert told.response.headers["retry-after"] == "7"
    assert "insufficient_quota" in told.response.text


@pytest.mark.parametrize("ask", [_ask_openai, _ask_anthropic])
@pytest.mark.parametrize("broken", [fault("hang", seconds=5), fault("drip", seconds=5), fault("die"), Reply(raw=b"{")])
def test_faults_reach_the_clients_and_an_early_end_is_seen(model_provider: Provider, ask: Any, broken: Reply) -> None:
    model_provider.answers(broken)
    if broken.fault == "drip":
        # A client's timeout is for each read: a drip keeps it waiting until the rig gives up.
        with httpx2.Client(timeout=2, **PLAIN) as client, pytest.raises(httpx2.HTTPError):
            client.post(f"{model_provider.url}/chat/completions", json={})
        return
    with pytest.raises((openai.OpenAIError, anthropic.AnthropicError, ValueError)):
        ask(model_provider)
    if broken.fault == "hang":
        httpx2.get(f"{model_provider.url}/models", **PLAIN, timeout=20)
        assert model_provider.ledger[0].closed_early


def test_scripts_keep_conversations_apart_and_the_ledger_has_all(model_provider: Provider) -> None:
    one, two = model_provider.script(says("one")), model_provider.script(says("two"), status(500))
    for script in (one, two, one):
        body = {"messages": [{"role": "user", "content": script.task()}]}
        httpx2.post(f"{model_provider.url}/chat/completions", json=body, **PLAIN)
    assert (len(one.seen), len(two.seen), len(model_provider.ledger)) == (2, 1, 3)
    assert sum(exchange.input_tokens for exchange in model_provider.ledger) == 36


def test_the_sink_redirects_plays_metadata_and_keeps_what_came() -> None:
    with sink() as received, httpx2.Client(**PLAIN, follow_redirects=True) as client:
        answer = client.get(f"{received.url}/redirect", params={"to": received.url + METADATA})
        assert answer.json() == {"AccessKeyId": "stub"}
        client.post(f"{received.url}/hook", content=b"body")
        assert [len(received.at(path)) for path in ("/redirect", METADATA, "/hook")] == [1, 1, 1]
        assert received.at("/hook")[0].body == b"body"


def test_a_name_of_the_rig_changes_its_address_between_lookups(tmp_path: Path) -> None:
    file = tmp_path / "names.json"
    file.write_text(json.dumps({"flip.rig.test": ["192.0.2.1", "127.0.0.1"]}))
    lookup = scripted(file)
    assert [lookup("flip.rig.test", 80)[0][4][0] for _ in range(3)] == ["192.0.2.1", "127.0.0.1", "127.0.0.1"]
    assert lookup("127.0.0.1", 80) == socket.getaddrinfo("127.0.0.1", 80)
    with pytest.raises(socket.gaierror):
        lookup("other.rig.test", 80)


def test_the_clock_moves_and_comes_back(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock")
    clock.advance(timedelta(hours=1))
    clock.advance(timedelta(hours=1))
    assert timedelta(minutes=119) < clock.now() - datetime.now(UTC) < timedelta(minutes=121)
    clock.reset()
    assert clock.ahead == timedelta()


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_canaries_are_found_in_every_form(shift: int) -> None:
    canaries = Canaries({"secret": "secret-0123456789abcdef"})
    raw = b"x" * shift + b"secret-0123456789abcdef" + b"yz"
    for form in (raw, raw.upper(), raw.hex().encode(), base64.b64encode(raw), quote(raw.decode()).encode()):
        assert canaries.found_in(b"before " + form + b" after") == ["secret"]
    assert canaries.found_in(b"nothing of it: secret-0123") == []


def test_a_provider_of_its_own_ends_with_its_block() -> None:
    with provider() as stub:
        address = stub.url
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(address, **PLAIN)
