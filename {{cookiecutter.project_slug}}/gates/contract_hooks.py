"""What schemathesis cannot draw from the contract, and what it does not ask; loaded by it alone, in `make contract`."""

import json
import os
from typing import Any
from uuid import uuid4

import httpx2
import schemathesis

KEY = "Idempotency-Key"
SEEDED = "CONTRACT_SEEDED"  # by API key, what is there for its caller: see `Caller` in gates/contract.py
CLAIM, ELEVATION = "POST /v1/key-claim-redemptions", "POST /v1/elevations"
NAMES = {ELEVATION: "role", "POST /v1/approvals/{approval_id}/decision": "digest"}  # fields of body and caller
SIGNED_IN = {"POST /v1/keys/own", CLAIM, ELEVATION}  # as the person who signs in: no key opens the first two
_seeded: dict[str, dict[str, str]] = json.loads(os.environ.get(SEEDED, "{}"))


@schemathesis.hook
def before_call(context: object, case: Any, kwargs: object) -> None:  # noqa: ARG001 - by these names
    headers = getattr(case, "headers", None) or {}
    _renew_idempotency_key(headers)
    key = str(headers.get("Authorization", "")).removeprefix("Bearer ")
    if key not in _seeded:
        return
    meant_well = case.meta is not None and case.meta.generation.mode.is_positive
    if meant_well and isinstance(case.body, dict):
        case.body = _with_a_tool_to_choose(case.body | _existing(case, key))
    if case.operation.label in SIGNED_IN:
        headers["Authorization"] = f"Bearer {_seeded[key]['token']}"


def _renew_idempotency_key(headers: Any) -> None:
    """A key that was used with another request is refused, and short ones are drawn again and again: each is made new.

    One that is no key stays as it was drawn."""
    drawn = str(headers.get(KEY, ""))
    if 0 < len(drawn) < 200 and all("!" <= each <= "~" for each in drawn):
        headers[KEY] = f"{drawn}-{uuid4().hex}"


def _existing(case: Any, key: str) -> dict[str, str]:
    """The value of the body that names something: a drawn one fits the contract, and nothing has it."""
    label, seeded = case.operation.label, _seeded[key]
    if label in NAMES:
        return {NAMES[label]: seeded[NAMES[label]]}
    if label == CLAIM:
        return _new_claim(f"{case.operation.base_url.rstrip('/')}/v1/members/{seeded['member_id']}/key-claims", key)
    return {}


def _with_a_tool_to_choose(body: dict[str, Any]) -> dict[str, Any]:
    """A `tool_choice` is of tools of the same request. No schema can say that; a provider refuses another one."""
    choice = body.get("tool_choice")
    tools = [tool for tool in body.get("tools") or () if tool.get("type") == "function"]
    named = [(tool.get("function") or tool)["name"] for tool in tools]
    if not named:
        return {name: value for name, value in body.items() if name != "tool_choice"}
    if not isinstance(choice, dict) or choice.get("type") != "function":
        return body
    chosen = {"function": {"name": named[0]}} if "function" in choice else {"name": named[0]}
    return body | {"tool_choice": choice | chosen}


def _new_claim(address: str, key: str) -> dict[str, str]:
    created = httpx2.post(address, headers={"Authorization": f"Bearer {key}"}, trust_env=False, timeout=40)
    return {"claim": created.json()["claim"]} if created.status_code == 201 else {}


@schemathesis.check
class EveryOperationIsDone:
    """Every operation of the contract is asked, and answered 2xx at least once: refusals alone show little of it."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.done: set[str] = set()

    def after_response(self, _context: object, response: Any, case: Any) -> None:
        if not self.known:
            self.known = {found.ok().label for found in case.operation.schema.get_all_operations()}
        if 200 <= response.status_code < 300:
            self.done.add(case.operation.label)

    def after_run(self, _context: object) -> None:
        if missing := sorted(self.known - self.done):
            raise AssertionError(f"never answered 2xx: {', '.join(missing)}")
