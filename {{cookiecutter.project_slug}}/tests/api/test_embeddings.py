"""Embeddings as a prototype meets them: through the `openai` package, but for address and key unchanged."""

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from app.content.personal import KINDS
from app.settings import ROOT
from gates.rig.databases import NewDatabase
from gates.rig.people import Person
from gates.rig.plain_http import PLAIN
from gates.rig.service import Service, running, wait_for
from gates.rig.vectors import encoded, vector
from tests.api.embedding_provider import USAGE, EmbeddingProvider, embedding_provider

MODEL = "text-embedding-3-small"  # two cents for a million tokens, by the price library
PATH = "/v1/embeddings"


@dataclass
class Desk:
    service: Service
    model: EmbeddingProvider
    who: Person
    admin: Person
    client: openai.OpenAI

    def asked(self, said: Any, who: Person | None = None, headers: Any = None, **more: Any) -> httpx2.Response:
        body = {"model": MODEL, "input": said, **more}
        return self.service.call(who or self.who, "POST", PATH, json=body, headers=headers or {})

    def spent(self) -> Decimal:
        return Decimal(self.service.call(self.who, "GET", "/v1/usage").json()["cost_usd"])

    def booked(self) -> list[tuple[str, int, int]]:
        rows = self.service.call(self.who, "GET", "/v1/usage").json()["items"]
        return [(row["feature"], row["input_tokens"], row["output_tokens"]) for row in rows]

    def held(self) -> Decimal:
        items = self.service.call(self.admin, "GET", "/v1/budgets").json()["items"]
        return max(Decimal(item["held_usd"]) for item in items if item["scope"] == "tenant")


@pytest.fixture(scope="module")
def started(
    new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, EmbeddingProvider]]:
    with embedding_provider() as stub:
        environment = {"MODEL_PROVIDER": "openai", "MODEL_API_KEY": "sk-test-only", "MODEL_BASE_URL": stub.url}
        folder = tmp_path_factory.mktemp("embeddings")
        environment |= {"CONFIG_DIR": str(_without_memory(folder / "config")), "MODEL_TIMEOUT_MS": "3000"}
        with running(new_sqlite(), folder, **environment) as service:
            yield service, stub


def _without_memory(config: Path) -> Path:
    """Each test looks at one failure: none is asked again, and none keeps the next request from being asked."""
    shutil.copytree(ROOT / "config", config)
    table = config / "models.toml"
    text = table.read_text().replace("attempts = 3", "attempts = 1")
    table.write_text(text.replace("breaker_faults = 5", "breaker_faults = 1000"))
    return config


@pytest.fixture
def desk(started: tuple[Service, EmbeddingProvider]) -> Iterator[Desk]:
    service, stub = started
    stub.reset()
    who, admin = service.people(["member"], ["admin"])
    with openai.OpenAI(base_url=f"{service.base_url}/v1", api_key=who.key, max_retries=0) as client:
        yield Desk(service, stub, who, admin, client)


def test_a_prototype_gets_its_vectors_and_pays_for_what_was_read(desk: Desk) -> None:
    desk.model.usage = {"prompt_tokens": 100_000, "total_tokens": 100_000}
    texts = ["One. " * 20_000, "Two."]
    answer = desk.client.embeddings.create(model=MODEL, input=texts, user="ada@example.com")
    assert [item.embedding for item in answer.data] == [vector(text) for text in texts]
    assert [item.index for item in answer.data] == [0, 1]
    assert (answer.model, answer.usage.prompt_tokens, answer.usage.total_tokens) == (MODEL, 100_000, 100_000)
    assert desk.model.seen == [{"model": MODEL, "input": texts, "encoding_format": "base64"}]
    assert desk.model.paths == ["/v1/embeddings"]
    assert desk.model.headers[0]["Authorization"] == "Bearer sk-test-only"
    assert desk.booked() == [("embeddings", 100_000, 0)]
    assert desk.spent() == Decimal("0.002")


@pytest.mark.parametrize("as_floats", [False, True])
@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_a_vector_comes_as_it_is_asked_for_however_the_provider_gives_it(
    desk: Desk, as_floats: bool, encoding: str | None
) -> None:
    desk.model.as_floats = as_floats
    answer = desk.asked("Hello.", dimensions=8, encoding_format=encoding)
    assert answer.status_code == 200, answer.text
    [item] = answer.json()["data"]
    wanted = vector("Hello.", 8)
    assert item["embedding"] == (encoded(wanted) if encoding == "base64" else wanted)
    assert desk.model.seen[0]["dimensions"] == 8
    openai.types.CreateEmbeddingResponse.model_validate(answer.json() | {"data": [item | {"embedding": wanted}]})


def test_the_answer_says_what_it_cost_and_who_gave_it(desk: Desk) -> None:
    answer = desk.asked("Hello.")
    assert answer.headers["x-model"] == MODEL
    assert Decimal(answer.headers["x-cost-usd"]) == desk.spent() > 0


def test_the_worst_case_is_held_while_the_provider_is_asked(desk: Desk) -> None:
    desk.model.seconds = 2
    asking = threading.Thread(target=desk.asked, args=("word " * 20_000,))
    asking.start()
    assert wait_for(lambda: desk.held() > 0, 5)
    assert desk.held() >= Decimal("0.002"), "a token for each byte, at two cents a million"
    asking.join()
    assert desk.held() == 0
    assert desk.booked() == [("embeddings", 12, 0)]


def test_a_used_up_budget_refuses_before_anybody_is_asked(desk: Desk) -> None:
    desk.service.call(desk.admin, "PUT", "/v1/budgets", json={"scope": "tenant", "limit_usd": "0.001"})
    answer = desk.asked("word " * 20_000)
    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "budget.exceeded")
    assert desk.model.seen == []
    assert desk.asked("A short one.").status_code == 200


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 0, "total_tokens": 0}, {"prompt_tokens": "many"}])
def test_without_usage_the_worst_case_is_paid(desk: Desk, usage: Any) -> None:
    desk.model.usage = usage
    answer = desk.asked(["äöü", "x"])
    [(_, tokens, _)] = desk.booked()
    assert tokens == len("äöüx".encode()) + 2 * 16
    assert answer.json()["usage"]["prompt_tokens"] == tokens


def test_a_total_that_is_more_than_the_prompt_was_read_as_well(desk: Desk) -> None:
    desk.model.usage = {"prompt_tokens": 0, "total_tokens": 30}
    desk.asked("x" * 100)
    assert desk.booked() == [("embeddings", 30, 0)]


def test_impossible_usage_costs_the_worst_case_and_is_disputed(desk: Desk) -> None:
    desk.model.usage = {"prompt_tokens": 10**9, "total_tokens": 10**9}
    assert desk.asked("Hello.").status_code == 200
    assert desk.booked() == [("embeddings", len("Hello.") + 16, 0)]
    items = desk.service.call(desk.admin, "GET", "/v1/audit?limit=200").json()["items"]
    assert "model_call.disputed" in {item["action"] for item in items}


def test_a_client_that_hangs_up_leaves_nothing_held(desk: Desk) -> None:
    desk.model.seconds = 1
    headers = {"Authorization": f"Bearer {desk.who.key}"}
    body = {"model": MODEL, "input": "Hello."}
    with pytest.raises(httpx2.TimeoutException):
        httpx2.post(f"{desk.service.base_url}{PATH}", json=body, headers=headers, **PLAIN | {"timeout": 0.5})
    assert wait_for(lambda: desk.booked() == [("embeddings", 12, 0)], 10)
    assert desk.held() == 0


TOKENS = [96447, 25, 35334, 36587, 916, 11, 60509, 24352, 6704, 120, 95, 19113, 91416]
TOLD = "Ada: ada@example.com, größe 漢字 😀"
SENT = "Ada: [email-1], größe 漢字 😀"


@pytest.mark.parametrize("said", [TOLD, [TOLD], TOKENS, [TOKENS]], ids=["text", "texts", "tokens", "tokenized texts"])
def test_personal_data_stays_here_in_every_kind_of_item(desk: Desk, said: Any) -> None:
    assert "email" in KINDS
    assert desk.asked(said).json()["data"][0]["embedding"] == vector(SENT)
    assert desk.model.seen[0]["input"] == [SENT]


def test_a_text_is_sent_the_same_way_whatever_stands_beside_it(desk: Desk) -> None:
    texts = ["From bob@example.com.", TOLD, "[email-1] is not mine.", TOLD]
    desk.asked(texts)
    alone = [desk.asked(text).json()["data"][0]["embedding"] for text in texts]
    assert desk.model.seen[0]["input"] == [body["input"][0] for body in desk.model.seen[1:]] + [SENT]
    assert alone[1] == alone[3]


def test_the_same_is_given_again_for_nothing_in_either_form(desk: Desk) -> None:
    first = desk.asked(["One.", "Two."])
    spent = desk.spent()
    again = desk.asked(["One.", "Two."])
    assert again.json() == first.json()
    assert (again.headers["x-cost-usd"], again.headers["cache-status"]) == ("0.000000", "service; hit")
    as_text = desk.asked(["One.", "Two."], encoding_format="base64").json()["data"]
    assert [item["embedding"] for item in as_text] == [encoded(vector("One.")), encoded(vector("Two."))]
    assert (len(desk.model.seen), desk.spent()) == (1, spent)
    for other in ({"dimensions": 8}, {"model": "text-embedding-3-large"}):
        assert "cache-status" not in desk.asked(["One.", "Two."], **other).headers


def test_another_tenant_is_never_given_what_one_has_paid_for(desk: Desk) -> None:
    desk.asked("Hello.")
    [stranger] = desk.service.people(["member"])
    answer = desk.asked("Hello.", stranger)
    assert "cache-status" not in answer.headers
    assert Decimal(answer.headers["x-cost-usd"]) > 0
    assert len(desk.model.seen) == 2


@pytest.mark.parametrize(("header", "asked"), [("no-cache", 2), ("no-store", 2), ("max-age=0", 2), ("max-age=60", 1)])
def test_a_header_says_whether_a_kept_one_will_do(desk: Desk, header: str, asked: int) -> None:
    desk.asked("Hello.")
    assert desk.asked("Hello.", headers={"Cache-Control": header}).status_code == 200
    assert len(desk.model.seen) == asked


def test_what_is_not_to_be_stored_is_not(desk: Desk) -> None:
    desk.asked("Hello.", headers={"Cache-Control": "no-store"})
    desk.asked("Hello.")
    assert len(desk.model.seen) == 2


def test_what_is_too_large_is_not_kept(desk: Desk) -> None:
    for _ in range(2):
        assert desk.asked(["Hello."], dimensions=8_000).status_code == 200
    assert len(desk.model.seen) == 1, "32 kB"
    for _ in range(2):
        assert desk.asked(["Hello."] * 4, dimensions=8_000).status_code == 200
    assert len(desk.model.seen) == 3, "more than 100 kB"


@pytest.mark.parametrize("switch", ["feature:embeddings", f"model:{MODEL}", "runs"])
def test_a_switch_stops_it_and_what_is_kept_as_well(desk: Desk, switch: str) -> None:
    desk.asked("Hello.")
    [operator] = desk.service.people(["platform_operator"])
    on = {"state": "on", "reason": "a drill"}
    desk.service.call(operator, "PUT", f"/v1/switches/{switch}", json=on)
    try:
        for text in ("Hello.", "Something else."):
            answer = desk.asked(text)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "service.halted")
    finally:
        desk.service.call(operator, "PUT", f"/v1/switches/{switch}", json=on | {"state": "off"})
    assert len(desk.model.seen) == 1


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "provider.auth_failed"), (429, "provider.rate_limited"), (503, "provider.overloaded"),
     (500, "provider.unavailable")],
)  # fmt: skip
def test_a_provider_s_failure_has_its_own_name_and_costs_nothing(desk: Desk, status: int, code: str) -> None:
    desk.model.status, desk.model.raw = status, b'{"error": {"message": "from the provider"}}'
    answer = desk.asked("Hello.")
    assert answer.json()["error"]["code"] == code
    assert "from the provider" not in answer.text
    assert desk.spent() == 0
    assert desk.held() == 0


def test_a_provider_s_refusal_is_told(desk: Desk) -> None:
    told = {"message": "dimensions must be at most 1536", "type": "invalid_request_error", "param": "dimensions"}
    desk.model.status, desk.model.raw = 400, json.dumps({"error": told}).encode()
    with pytest.raises(openai.BadRequestError, match="at most 1536") as refused:
        desk.client.embeddings.create(model=MODEL, input="x", dimensions=8_000)
    assert refused.value.param == "dimensions"
    assert desk.spent() == 0


def test_what_is_kept_serves_where_the_provider_fails(desk: Desk) -> None:
    desk.asked("Hello.")
    desk.model.status, desk.model.raw = 503, b"{}"
    assert desk.asked("Hello.", headers={"Cache-Control": "min-fresh=86000"}).status_code == 200
    assert desk.asked("Something else.").status_code == 503
    assert len(desk.model.seen) == 3


def _data(*vectors: Any, **more: Any) -> bytes:
    data = [{"object": "embedding", "index": at, "embedding": each, **more} for at, each in enumerate(vectors)]
    return json.dumps({"object": "list", "data": data, "model": MODEL, "usage": USAGE}).encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"<html>", b"[]", b'{"data": {}}', b'{"data": [1, 2]}', b"[" * 100_000,
        _data([0.5]), _data([0.5], [0.5], [0.5]), _data([0.5], [0.5, 0.5]), _data([0.5], []), _data([0.5], ""),
        _data([0.5], None), _data([0.5], ["x"]), _data([0.5], [True]), _data([0.5], [10**400]), _data([0.5], [1e300]),
        _data([0.5], "%%%%"), _data("AAAA", "AAAA"), _data("AADAfw==", "AAAAAA=="), _data([0.5], [0.5], index=0),
        _data([0.5], [0.5], index=7), _data([0.5], [0.5], index="0"),
        _data([0.5], [0.5]).replace(b"0.5", b"NaN", 1),
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_not_passed_on_and_costs_its_worst_case(desk: Desk, raw: bytes) -> None:
    desk.model.raw = raw
    answer = desk.asked(["One.", "Two."])
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "model.output_invalid")
    assert desk.booked() == [("embeddings", len("One.Two.") + 2 * 16, 0)]


def test_vectors_are_put_in_the_order_of_the_texts(desk: Desk) -> None:
    data = [{"object": "embedding", "index": 1 - at, "embedding": [float(at)]} for at in range(2)]
    desk.model.raw = json.dumps({"data": data, "usage": USAGE}).encode()
    assert [item["embedding"] for item in desk.asked(["a", "b"]).json()["data"]] == [[1.0], [0.0]]


@pytest.mark.parametrize(
    "body",
    [
        {"input": None}, {"input": []}, {"input": ""}, {"input": ["a", ""]}, {"input": ["a", 1]}, {"input": [1, "a"]},
        {"input": [[1], "a"]}, {"input": [[]]}, {"input": [-1]}, {"input": [100_256]}, {"input": [True]},
        {"input": {"a": 1}}, {"input": ["a"] * 2_049}, {"input": [1] * 8_193}, {"input": "a\0"}, {"model": None},
        {"encoding_format": "int8"}, {"dimensions": 0}, {"dimensions": 1.5}, {"unknown": 1}, {"user": 1},
    ],
)  # fmt: skip
def test_what_is_not_valid_is_refused_in_the_interface_s_shape(desk: Desk, body: dict[str, Any]) -> None:
    answer = desk.service.call(desk.who, "POST", PATH, json={"model": MODEL, "input": "x", **body})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "request.invalid"), answer.text
    assert desk.model.seen == []


def test_null_is_the_same_as_nothing(desk: Desk) -> None:
    absent = {"encoding_format": None, "dimensions": None, "user": None}
    assert desk.asked("Hello.", **absent).status_code == 200
    assert desk.model.seen[0].keys() == {"model", "input", "encoding_format"}


def test_a_name_that_is_not_offered_is_refused_with_those_that_are(desk: Desk) -> None:
    answer = desk.asked("Hello.", model="text-embedding-9")
    assert 400 <= answer.status_code < 500
    message = answer.json()["error"]["message"]
    assert "text-embedding-3-small" in message
    assert "gpt" not in message
    assert desk.model.seen == []


def test_two_thousand_texts_at_once(desk: Desk) -> None:
    texts = [f"Text number {number}." for number in range(2_048)]
    answer = desk.client.embeddings.create(model=MODEL, input=texts, dimensions=256)
    assert [item.embedding for item in answer.data] == [vector(text, 256) for text in texts]


def test_a_provider_without_embeddings_says_so(new_sqlite: NewDatabase, tmp_path: Path) -> None:
    with running(new_sqlite(), tmp_path, MODEL_PROVIDER="anthropic", MODEL_API_KEY="sk-test-only") as service:
        [who] = service.people(["member"])
        answer = service.call(who, "POST", PATH, json={"model": MODEL, "input": "x"})
        assert 400 <= answer.status_code < 500
        assert "no embeddings" in answer.json()["error"]["message"]
        contract = service.call(who, "GET", "/openapi.json").json()
        names = contract["components"]["schemas"]["EmbeddingCreate"]["properties"]["model"]
        assert "enum" not in names, "a list without a name would be no JSON schema"


def test_a_model_that_nobody_can_price_is_refused_at_start(new_sqlite: NewDatabase, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    table = tmp_path / "config" / "models.toml"
    table.write_text(table.read_text() + '"offline-unpriced" = { model = "nobody-has-priced-this" }\n')
    with pytest.raises(RuntimeError, match="no known price"):  # noqa: SIM117 - it ends in the second
        with running(
            new_sqlite(), tmp_path, CONFIG_DIR=str(tmp_path / "config"), MODEL_PROVIDER="google", MODEL_API_KEY="x"
        ):
            pass
