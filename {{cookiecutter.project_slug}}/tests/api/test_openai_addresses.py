"""What a client of OpenAI's interface is told that asks at an address which is none: which one is meant."""

import openai
import pytest

from app.api.openai_addresses import OPENAI_PATHS, RESOURCES
from app.features import FEATURES
from gates.rig.people import Person
from gates.rig.routes import all_routes
from gates.rig.service import Service

CHAT, EMBEDDINGS, MODELS = "/v1/chat/completions", "/v1/embeddings", "/v1/models"


@pytest.fixture(scope="module")
def member(service: Service) -> Person:
    return service.people(["member"])[0]


@pytest.mark.parametrize(
    ("method", "path", "told"),
    [
        ("POST", "/v1/chat/completions/", (CHAT, "without a slash at its end", "set the base URL to http")),
        ("POST", "/chat/completions", (CHAT, "with /v1 before it")),
        ("POST", "/v1/v1/chat/completions", (CHAT, "with /v1 once")),
        ("POST", "//v1/chat/completions", (CHAT, "with single slashes")),
        ("POST", "/embeddings", (EMBEDDINGS, "with /v1 before it")),
        ("POST", "/v1/embeddings/", (EMBEDDINGS, "without a slash at its end")),
        ("GET", "/models", (MODELS, "with /v1 before it")),
        ("POST", "/v1/completions", (CHAT,)),
        ("GET", "/v1/chat/completions/chatcmpl-1", (CHAT,)),
        ("POST", "/v1/audio/speech", ("does not offer /v1/audio", CHAT, EMBEDDINGS, MODELS)),
        ("POST", "/v1/images/generations", ("does not offer /v1/images", CHAT)),
        ("GET", "/v1/files", ("does not offer /v1/files", CHAT)),
        ("POST", "/v1/assistants", ("does not offer /v1/assistants", CHAT)),
        ("POST", "/v1/moderations", ("does not offer /v1/moderations", CHAT)),
        ("GET", "/v1/responses/resp_1", ("/v1/responses",)),
    ],
)
def test_an_address_that_is_none_names_the_one_that_is(
    service: Service, member: Person, method: str, path: str, told: tuple[str, ...]
) -> None:
    answer = service.call(member, method, path, **({"json": {}} if method == "POST" else {}))
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", None)
    for part in told:
        assert part in error["message"]


def test_nothing_of_the_address_is_repeated(service: Service, member: Person) -> None:
    for path in ("/v1/files/canary-7f3a", "/v1/chat/canary-7f3a", "/v1/models/canary-7f3a", "/v1/canary-7f3a"):
        answer = service.call(member, "GET", path)
        assert answer.status_code == 404
        assert "canary" not in answer.text


def test_a_method_that_is_none_is_told_in_the_same_shape(service: Service, member: Person) -> None:
    answer = service.call(member, "GET", CHAT)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["error"]["message"] == "This address takes POST."


def test_openai_s_client_can_read_it(service: Service, member: Person) -> None:
    with openai.OpenAI(base_url=service.base_url, api_key=member.key, max_retries=0) as client:
        with pytest.raises(openai.NotFoundError, match="with /v1 before it"):
            client.chat.completions.create(model="standard", messages=[])
        with pytest.raises(openai.NotFoundError, match="does not offer /v1/moderations"):
            client.moderations.create(input="x")


@pytest.mark.parametrize("path", ["/v1/runs/x/y", "/v1/approvals/", "/v1/nothing", "/v1/v1/runs", "/v1", "/nothing"])
def test_an_address_of_its_own_interface_is_a_problem_as_ever(service: Service, member: Person, path: str) -> None:
    answer = service.call(member, "GET", path)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


def test_without_a_credential_a_body_is_not_read_there_either(service: Service) -> None:
    answer = service.call(None, "POST", "/v1/completions", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "auth.unauthenticated")


def test_no_route_of_its_own_or_of_a_feature_is_taken_for_openai_s() -> None:
    ours = [route.path for route in all_routes() if route.path in OPENAI_PATHS and route.permission != "chat:write"]
    assert ours == []
    assert not {feature.name for feature in FEATURES} & RESOURCES.keys()
