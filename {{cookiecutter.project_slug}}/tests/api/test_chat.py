"""The chat interface as a prototype meets it: through the `openai` package, but for address and key unchanged."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from app.settings import ROOT
from gates.rig.databases import NewDatabase
from gates.rig.people import Person
from gates.rig.plain_http import PLAIN
from gates.rig.provider import Provider, calls, fault, provider, says, status
from gates.rig.service import Service, running, wait_for

TOOL = {
    "type": "function",
    "function": {"name": "send_mail", "parameters": {"type": "object", "properties": {"to": {"type": "string"}}}},
}


DEEP: dict[str, Any] = {}
for _ in range(500):
    DEEP = {"a": DEEP}


@dataclass
class Desk:
    service: Service
    model: Provider
    who: Person
    admin: Person
    client: openai.OpenAI

    def asked(self, text: str, *answers: Any, **more: Any) -> Any:
        script = self.model.script(*answers)
        messages = [{"role": "user", "content": script.task(text)}]
        return self.create(messages=messages, **more), script

    def create(self, **asked: Any) -> Any:
        return self.client.chat.completions.create(**{"model": "gpt-4o", **asked})

    def spent(self) -> Decimal:
        return Decimal(self.service.call(self.who, "GET", "/v1/usage").json()["cost_usd"])


@pytest.fixture(scope="module")
def started(new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Provider]]:
    with provider() as stub:
        environment = {"MODEL_PROVIDER": "openai", "MODEL_API_KEY": "sk-test-only", "MODEL_BASE_URL": stub.url}
        folder = tmp_path_factory.mktemp("chat")
        environment |= {"CONFIG_DIR": str(_without_memory(folder / "config")), "MODEL_TIMEOUT_MS": "1500"}
        with running(new_sqlite(), folder, **environment) as service:
            yield service, stub


def _without_memory(config: Path) -> Path:
    """Each test looks at one failure: none is asked again, none keeps the next request from being asked, and none has
    time for a model to reason."""
    shutil.copytree(ROOT / "config", config)
    table = config / "models.toml"
    text = table.read_text().replace("attempts = 3", "attempts = 1")
    text = text.replace('model = "gpt-5-mini",', 'model = "gpt-5-mini", reasoning_tokens = 0,')
    table.write_text(text.replace("breaker_faults = 5", "breaker_faults = 1000"))
    return config


@pytest.fixture
def desk(started: tuple[Service, Provider]) -> Iterator[Desk]:
    who, admin = started[0].people(["member"], ["admin"])
    with _client(started[0], who.key) as client:
        yield Desk(*started, who, admin, client)


def _client(service: Service, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.base_url}/v1", api_key=key, max_retries=0)


def test_a_prototype_gets_its_answer_and_pays_for_it(desk: Desk) -> None:
    answer, script = desk.asked("Hello.", replace(says("Good day."), usage=(1_000, 500)), verbosity="low", seed=7)
    assert answer.choices[0].message.content == "Good day."
    assert answer.usage.total_tokens == 1_500
    [sent] = script.requests
    assert sent["model"] == "gpt-5-mini"
    assert (sent["verbosity"], sent["seed"], sent["max_completion_tokens"]) == ("low", 7, 900)
    rows = desk.service.call(desk.who, "GET", "/v1/usage").json()["items"]
    assert [(row["feature"], row["input_tokens"], row["output_tokens"]) for row in rows] == [("chat", 1_000, 500)]


def test_the_answer_says_what_it_cost_and_who_gave_it(desk: Desk) -> None:
    desk.model.answers(replace(says("Yes."), usage=(1_000, 500)))
    body = {"model": "standard", "messages": [{"role": "user", "content": "?"}]}
    answer = desk.service.call(desk.who, "POST", "/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert Decimal(answer.headers["x-cost-usd"]) == desk.spent() > 0
    assert answer.headers["x-model"] == "gpt-5-mini"
    assert "x-degraded" not in answer.headers


def test_a_stream_arrives_whole_and_is_paid_for(desk: Desk) -> None:
    options = {"include_usage": True}
    pieces, script = desk.asked("Count.", says("one two three"), stream=True, stream_options=options)
    read = list(pieces)
    assert "".join(piece.choices[0].delta.content or "" for piece in read if piece.choices) == "one two three"
    assert read[-1].usage.total_tokens == 17
    assert script.requests[0]["stream_options"] == {"include_usage": True}
    rows = desk.service.call(desk.who, "GET", "/v1/usage").json()["items"]
    assert [(row["input_tokens"], row["output_tokens"]) for row in rows] == [(12, 5)]


def test_who_did_not_ask_for_usage_gets_none_and_pays_all_the_same(desk: Desk) -> None:
    pieces, _ = desk.asked("Count.", says("one"), stream=True)
    assert all(piece.choices and piece.usage is None for piece in pieces)
    assert desk.spent() > 0


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_pass_through_as_data(desk: Desk, stream: bool) -> None:
    hijacked = calls("send_mail", {"to": "[email-1]", "text": "[email-2] [note-1]"})
    answer, script = desk.asked("Write to ada@example.com.", hijacked, tools=[TOOL], stream=stream)
    if stream:
        deltas = [piece.choices[0].delta for piece in answer if piece.choices]
        told = "".join(call.function.arguments or "" for delta in deltas for call in delta.tool_calls or ())
    else:
        told = answer.choices[0].message.tool_calls[0].function.arguments
    assert json.loads(told) == {"to": "ada@example.com", "text": "[email-2] [note-1]"}
    assert "ada@example.com" not in json.dumps(script.requests)


def test_personal_data_stays_here_wherever_a_piece_ends(desk: Desk) -> None:
    text = "Ask [email-1] or [email-2], [email-1]; x[0] and [email"
    pieces, script = desk.asked("From ada@example.com to bob@example.com.", says(text), stream=True)
    read = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert read == "Ask ada@example.com or bob@example.com, ada@example.com; x[0] and [email"
    assert "example.com" not in script.seen[0].raw.decode()


def test_a_conversation_goes_on_with_what_was_answered(desk: Desk) -> None:
    script = desk.model.script(calls("send_mail", {"to": "ada@example.com"}), says("Sent."))
    messages: list[Any] = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": script.task()}]
    first = desk.create(messages=messages, tools=[TOOL])
    said = first.choices[0].message
    messages += [said, {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": "done"}]
    second = desk.create(messages=messages, tools=[TOOL])
    assert second.choices[0].message.content == "Sent."
    assert [message["role"] for message in script.requests[1]["messages"]] == ["system", "user", "assistant", "tool"]


def test_the_models_there_are(desk: Desk) -> None:
    assert {model.id for model in desk.client.models.list()} >= {"standard", "gpt-5-mini", "gpt-4", "auto"}


@pytest.mark.parametrize(
    ("name", "model"),
    [("gpt-4o-2024-11-20", "gpt-5-mini"), ("gpt-4.1-nano", "gpt-5-nano"), ("gpt-5", "gpt-5"), ("o3", "gpt-5")],
)
def test_the_names_in_people_s_code_lead_to_a_tier(desk: Desk, name: str, model: str) -> None:
    _, script = desk.asked("Hello.", says("Yes."), model=name)
    assert script.requests[0]["model"] == model


def test_another_model_is_refused_with_the_names_there_are(desk: Desk) -> None:
    with pytest.raises(openai.NotFoundError, match=r"choose from auto, small, .*config/models\.toml") as refused:
        desk.create(model="llama-9", messages=[{"role": "user", "content": "?"}])
    assert (refused.value.code, refused.value.param, refused.value.type) == (
        "model_not_found", "model", "invalid_request_error",
    )  # fmt: skip
    assert desk.spent() == 0


def test_a_used_up_budget_is_said_once_and_clearly(desk: Desk) -> None:
    body = {"scope": "tenant", "limit_usd": "0.000001"}
    assert desk.service.call(desk.admin, "PUT", "/v1/budgets", json=body).status_code == 200
    before = len(desk.model.ledger)
    with pytest.raises(openai.APIStatusError) as refused:
        desk.create(messages=[{"role": "user", "content": "?"}])
    assert refused.value.status_code == 402
    assert refused.value.code == "budget.exceeded"
    assert "it resets at" in refused.value.message
    assert len(desk.model.ledger) == before


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"messages": []}, "/messages"),
        ({"n": 50}, "/n"),
        ({"service_tier": "priority"}, "/service_tier"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "/messages/0/content",
        ),
        ({"max_tokens": 0}, "/max_tokens"),
        ({"response_format": {"type": "json_schema", "json_schema": DEEP}}, "/response_format"),
    ],
)
def test_what_is_not_taken_is_named_in_the_interface_s_own_shape(
    desk: Desk, change: dict[str, Any], where: str
) -> None:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "?"}], **change}
    answer = desk.service.call(desk.who, "POST", "/v1/chat/completions", json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-should-retry"] == "false"
    error = answer.json()["error"]
    assert error["code"] == "request.invalid"
    assert error["param"].startswith(where)
    assert error["request_id"] == answer.headers["x-request-id"]


def test_what_no_encoding_knows_does_not_reach_the_provider(desk: Desk) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"title": "a\ud800b ada@example.com"}}}
    for change in ({"response_format": schema}, {"tools": [{**TOOL, "function": {"name": "x", "parameters": schema}}]}):
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "?"}], **change}
        raw, json_type = json.dumps(body).encode(), {"Content-Type": "application/json"}
        desk.model.answers(says("Yes."))
        answer = desk.service.call(desk.who, "POST", "/v1/chat/completions", content=raw, headers=json_type)
        assert answer.status_code == 200, answer.text
        assert "ab [email-1]" in desk.model.ledger[-1].raw.decode()


def test_a_wrong_key_and_a_missing_permission_are_told_in_the_same_shape(desk: Desk) -> None:
    [viewer] = desk.service.people(["viewer"])
    for key, status_code, code in (("nonsense", 401, "auth.unauthenticated"), (viewer.key, 403, "auth.forbidden")):
        with _client(desk.service, key) as client, pytest.raises(openai.APIStatusError) as refused:
            client.models.list()
        assert (refused.value.status_code, refused.value.code) == (status_code, code)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("asked", "sent", "told"), [(1_000_000, 16_384, "16384"), (6_000, 6_000, None), (20, 20, None)]
)
def test_as_much_output_as_asked_for_up_to_the_ceiling_of_the_tier(
    desk: Desk, asked: int, sent: int, told: str | None, stream: bool
) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        script = desk.model.script(says("x"))
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": script.task()}], "stream": stream}
        answer = desk.service.call(desk.who, "POST", "/v1/chat/completions", json={**body, name: asked})
        assert script.requests[0]["max_completion_tokens"] == sent
        assert "max_tokens" not in script.requests[0]
        assert answer.headers.get("x-clamped-parameters") == (told and f"max_completion_tokens={told}")


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_model_does_not_take_is_left_out_and_told(desk: Desk, stream: bool) -> None:
    script = desk.model.script(says("x"))
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": script.task()}], "stream": stream}
    more = {"temperature": 0.1, "top_p": 0.9, "presence_penalty": 0.5, "stop": ["x"], "seed": 7}
    answer = desk.service.call(desk.who, "POST", "/v1/chat/completions", json={**body, **more})
    assert answer.headers["x-dropped-parameters"] == "presence_penalty, stop, temperature, top_p"
    [sent] = script.requests
    assert {*more} & sent.keys() == {"seed"}


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (status(401), "provider.auth_failed"),
        (status(429, kind="insufficient_quota"), "provider.quota_exhausted"),
        (replace(says("x"), raw=b"<html>"), "model.output_invalid"),
        (replace(says("x"), raw=b'{"choices": []}'), "model.output_invalid"),
        (replace(says("x"), raw=b'{"choices": ["x"]}'), "model.output_invalid"),
        (replace(says("x"), raw=b'{"choices": [{"message": {"content": 1}}]}'), "model.output_invalid"),
        (replace(says("x"), raw=b"[" * 100_000), "model.output_invalid"),
        (fault("hang", seconds=5), "provider.timeout"),
        (status(400, message="Incorrect model", kind="model_not_found"), "provider.rejected"),
        (replace(says("x"), status=400, raw=b"<html>"), "provider.rejected"),
        (status(404), "provider.rejected"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_provider_s_failure_has_its_own_name(desk: Desk, answer: Any, code: str, stream: bool) -> None:
    with pytest.raises(openai.APIStatusError) as failed:
        desk.asked("Fail.", answer, stream=stream)
    assert failed.value.code == code


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("code", [400, 413, 422])
def test_what_the_provider_says_is_wrong_with_a_request_is_told(desk: Desk, code: int, stream: bool) -> None:
    said = {"message": "Write to ada@example.com.\n" + "x" * 900, "param": "messages.[3].role", "code": "wrong_role"}
    refusing = replace(status(code), raw=json.dumps({"error": {**said, "type": "invalid_request_error"}}).encode())
    with pytest.raises(openai.BadRequestError) as refused:
        desk.asked("Fail.", refusing, stream=stream)
    error = refused.value.body
    assert isinstance(error, dict)
    assert (error["param"], error["code"], error["type"]) == (
        "messages.[3].role",
        "wrong_role",
        "invalid_request_error",
    )
    assert error["message"].startswith("Write to [email]. xxx")
    assert len(error["message"]) == 500
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert desk.spent() == 0


def test_each_of_several_answers_is_paid_for_where_nobody_says_what_they_cost(desk: Desk) -> None:
    costs = []
    for number in (1, 4):
        before = desk.spent()
        desk.asked("Say it.", replace(says("x"), usage=None), n=number)
        costs.append(desk.spent() - before)
    assert costs[1] > 3 * costs[0]


def test_a_stream_that_breaks_says_so_and_costs_its_worst_case(desk: Desk) -> None:
    pieces, _ = desk.asked("Break.", replace(fault("die"), text="word " * 40), stream=True)
    with pytest.raises(openai.APIError, match="temporarily limited"):
        list(pieces)
    assert desk.spent() > Decimal("0.001")


def test_a_client_that_hangs_up_ends_the_request_upstream(desk: Desk) -> None:
    script = desk.model.script(fault("endless", seconds=10))
    body = {"model": "standard", "stream": True, "messages": [{"role": "user", "content": script.task()}]}
    headers = {"Authorization": f"Bearer {desk.who.key}"}
    url = f"{desk.service.base_url}/v1/chat/completions"
    with httpx2.stream("POST", url, json=body, headers=headers, **PLAIN, timeout=300) as answer:
        assert answer.status_code == 200
        next(answer.iter_bytes())
    assert wait_for(lambda: script.seen[0].closed_early, 5)
    assert wait_for(lambda: desk.spent() > Decimal("0.001"), 5), "its worst case"


def test_without_a_provider_the_offline_model_answers(new_sqlite: NewDatabase, tmp_path: Path) -> None:
    with running(new_sqlite(), tmp_path) as service:
        [who] = service.people(["member"])
        with _client(service, who.key) as client:
            desk = Desk(service, Provider(), who, who, client)
            messages = [{"role": "user", "content": "Send mail to ada@example.com."}]
            assert desk.create(messages=messages, tools=[TOOL]).choices[0].message.tool_calls
            streamed = desk.create(messages=messages, stream=True)
            assert "".join(piece.choices[0].delta.content or "" for piece in streamed if piece.choices)


@pytest.mark.parametrize(
    "piece",
    [
        b'{"choices": "x"}',
        b'{"choices": [{"delta": "x"}]}',
        b'{"choices": [{"delta": {"tool_calls": [1]}}]}',
        b"x",
        b"[1]",
    ],
)
def test_a_piece_that_is_none_ends_the_stream_with_its_own_error(desk: Desk, piece: bytes) -> None:
    body = b'data: {"id": "a", "choices": [{"index": 0, "delta": {"content": "one"}}]}\n\ndata: ' + piece + b"\n\n"
    desk.model.answers(replace(says("x"), raw=body, media_type="text/event-stream"))
    pieces = desk.create(messages=[{"role": "user", "content": "From ada@example.com."}], stream=True)
    with pytest.raises(openai.APIError, match="not usable"):
        list(pieces)
