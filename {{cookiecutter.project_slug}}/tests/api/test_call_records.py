"""Every chat is on its tenant's record and in the console: who asked which model, and what it cost."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import pytest

from gates.rig.databases import NewDatabase
from gates.rig.people import Person
from gates.rig.plain_http import PLAIN
from gates.rig.provider import Provider, Script, fault, provider, says, status
from gates.rig.service import Service, running, wait_for

PATH = "/v1/chat/completions"
SAID = "the word nobody may read"


@dataclass
class Desk:
    service: Service
    model: Provider
    who: Person
    admin: Person

    def chat(self, script: Script, **more: Any) -> httpx2.Response:
        asked = {"model": "gpt-4o", "messages": [{"role": "user", "content": script.task(SAID)}], **more}
        return self.service.call(self.who, "POST", PATH, json=asked)

    def recorded(self) -> list[dict[str, Any]]:
        items = self.service.call(self.admin, "GET", "/v1/audit?limit=500").json()["items"]
        told = [item for item in items if item["action"].startswith("model_calls.")]
        return [{**item, "data": call} for item in told for call in item["data"]["calls"]]

    def console(self) -> str:
        with httpx2.Client(base_url=self.service.base_url, follow_redirects=True, **PLAIN, timeout=60) as browser:
            browser.post("/console/sign-in", data={"key": self.admin.key})
            return browser.get("/console").text


@pytest.fixture(scope="module")
def started(new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Provider]]:
    with provider() as stub:
        environment = {"MODEL_PROVIDER": "openai", "MODEL_API_KEY": "sk-test-only", "MODEL_BASE_URL": stub.url}
        with running(new_sqlite(), tmp_path_factory.mktemp("records"), **environment) as service:
            yield service, stub


@pytest.fixture
def desk(started: tuple[Service, Provider]) -> Desk:
    who, admin = started[0].people(["member"], ["admin"])
    return Desk(*started, who, admin)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_on_record_with_what_it_cost(desk: Desk, stream: bool) -> None:
    assert desk.chat(desk.model.script(replace(says(SAID), usage=(1_000, 500))), stream=stream).status_code == 200
    [item] = desk.recorded()
    spent = desk.service.call(desk.who, "GET", "/v1/usage").json()["cost_usd"]
    assert (item["actor"], item["action"]) == (desk.who.member_id, "model_calls.ended")
    assert item["data"].pop("id")
    assert item["data"] == {
        "feature": "chat", "model": "gpt-5-mini", "tier": "standard", "input_tokens": 1_000, "output_tokens": 500,
        "cost_usd": spent, "outcome": "ok",
    }  # fmt: skip
    page = desk.console()
    assert "gpt-5-mini" in page
    assert "<td>1000 / 500</td>" in page
    assert SAID not in page + str(item)
    assert desk.service.call(desk.admin, "GET", "/v1/audit/chain").json()["intact"]


@pytest.mark.parametrize("stream", [False, True])
def test_each_attempt_and_how_it_ended(desk: Desk, stream: bool) -> None:
    desk.chat(desk.model.script(status(503), replace(status(400), raw=b'{"error": {"message": "no"}}')), stream=stream)
    outcomes = [item["data"]["outcome"] for item in desk.recorded()]
    assert outcomes == ["provider.overloaded", "provider.refused_request"]
    page = desk.console()
    assert all(outcome in page for outcome in outcomes)


def test_a_stream_that_is_left(desk: Desk) -> None:
    script = desk.model.script(fault("endless", seconds=20))
    asked = {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": script.task()}]}
    headers = {"Authorization": f"Bearer {desk.who.key}"}
    with httpx2.stream(
        "POST", desk.service.base_url + PATH, json=asked, headers=headers, **PLAIN, timeout=60
    ) as answer:
        next(answer.iter_bytes())
    [item] = wait_for(desk.recorded, 20)
    assert item["data"]["outcome"] == "left"
    assert item["data"]["output_tokens"] > 0


def test_an_answer_that_is_given_again_is_on_record_as_such(desk: Desk) -> None:
    script = desk.model.script(says(SAID))
    for _ in range(2):
        assert desk.chat(script, temperature=0, seed=7).status_code == 200
    assert len(script.seen) == 1
    told = [(item["action"], item["data"]["cost_usd"] == "0.000000") for item in desk.recorded()]
    assert told == [("model_calls.ended", False), ("model_calls.given_again", True)]


def test_another_tenant_sees_none_of_it(desk: Desk) -> None:
    desk.chat(desk.model.script(says(SAID)))
    [stranger] = desk.service.people(["admin"])
    other = Desk(desk.service, desk.model, stranger, stranger)
    assert other.recorded() == []
    assert "None yet" in other.console()
