"""What the contract says beyond what proofs hold it to: an example of everything that may be sent."""

import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from app.entrypoints.web import ROUTERS, create_app
from app.features import FEATURES
from app.settings import load_settings

DOCUMENT: dict[str, Any] = create_app(load_settings(environment="test")).openapi()
# Not a feature's own. Without a feature there is no run to show.
OURS = {getattr(route, "path", "").replace(":path", "") for module in ROUTERS for route in module.router.routes}
SHOWN = OURS if FEATURES else OURS - {"/v1/runs"}
BODIES = {
    f"{method.upper()} {path}": operation["requestBody"]["content"]["application/json"]["schema"]
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
    if "requestBody" in operation and path in SHOWN
}


def test_there_are_bodies_to_look_at() -> None:
    assert len(BODIES) >= 13


@pytest.mark.parametrize("route", sorted(BODIES))
def test_every_body_has_an_example_that_it_takes_itself(route: str) -> None:
    schema = BODIES[route]
    reference = schema.get("$ref") or schema["anyOf"][0]["$ref"]
    body = DOCUMENT["components"]["schemas"][reference.rpartition("/")[2]]
    assert body["examples"], f"{route}: add one to app/api/examples.py"
    validator = Draft202012Validator({**body, "components": DOCUMENT["components"]})
    for example in body["examples"]:
        assert list(validator.iter_errors(example)) == []


def test_what_a_run_may_ask_for_has_the_bounds_of_this_service() -> None:
    settings = load_settings(environment="test")
    limits = DOCUMENT["components"]["schemas"]["Limits"]["properties"]
    told = {name: limits[name]["anyOf"][0] for name in limits}
    assert told["model_calls"]["maximum"] == settings.run_max_model_calls
    assert told["tool_calls"]["maximum"] == settings.run_max_tool_calls
    assert told["duration_s"]["maximum"] == settings.run_timeout_s
    assert re.search(told["cost_usd"]["pattern"], "0.5")
    assert not re.search(told["cost_usd"]["pattern"], "0.500001")
