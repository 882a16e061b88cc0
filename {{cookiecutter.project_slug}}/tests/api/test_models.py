"""The list of models and one of it, as OpenAI's clients read them."""

import openai
import pytest

from gates.rig.people import Person
from gates.rig.service import Service


@pytest.fixture(scope="module")
def member(service: Service) -> Person:
    return service.people(["member"])[0]


def _client(service: Service, who: Person) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.base_url}/v1", api_key=who.key, max_retries=0)


def test_the_list_has_chats_and_embeddings_and_each_can_be_looked_up(service: Service, member: Person) -> None:
    with _client(service, member) as client:
        names = [model.id for model in client.models.list()]
        assert {"standard", "gpt-4o", "text-embedding-3-small"} <= set(names)
        assert len(set(names)) == len(names)
        for name in names:
            model = client.models.retrieve(name)
            assert (model.id, model.object) == (name, "model")


@pytest.mark.parametrize("name", ["gpt-9", "meta/llama:70b", "a//b", "standard/", "ft:gpt-4o:acme::1"])
def test_a_name_that_is_none_is_not_found(service: Service, member: Person, name: str) -> None:
    answer = service.call(member, "GET", f"/v1/models/{name}")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (404, "model_not_found", "invalid_request_error")
    assert "gpt-4o" in error["message"]
    assert "9" not in error["message"].partition(":")[0], "the name is not repeated"


def test_who_may_not_chat_learns_of_no_model(service: Service) -> None:
    [viewer] = service.people(["viewer"])
    for name in ("standard", "gpt-9"):
        assert service.call(None, "GET", f"/v1/models/{name}").status_code == 401
        assert service.call(viewer, "GET", f"/v1/models/{name}").status_code == 403
