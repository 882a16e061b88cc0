"""The second feature through the running service: one tool of each effect, as docs/tools.md has them."""

from typing import Any
from uuid import uuid4

import pytest

from app.features.library import FEATURE
from app.policy.decision import Effect
from app.runtime import Runtime
from app.tools.caller import CallerOfRun
from app.tools.outcome import Parked, Performed, Refused
from gates.rig import people
from gates.rig.service import Service


def _run(service: Service, who: Any, task: str) -> str:
    body = {"feature": "library", "task": task}
    started = service.call(who, "POST", "/v1/runs", json=body, headers={"Idempotency-Key": uuid4().hex})
    return str(started.json()["id"])


def test_the_page_has_a_tool_of_each_effect() -> None:
    assert {tool.effect for tool in FEATURE.tools} == set(Effect)


def test_a_loan_waits_for_an_approver_and_happens_once(service: Service) -> None:
    member, approver = service.people(["member"], ["approver"])
    run_id = _run(service, member, "Create a loan: Moby Dick")
    service.run_until(member, run_id, "waiting")
    [question] = service.pending(approver, run_id)
    assert (question["tool"], question["effect"], question["change"]) == ("create_loan", "write", None)
    assert service.decide(approver, question).status_code == 200
    assert service.run_until(member, run_id, "succeeded")["feature"] == "library"


@pytest.mark.anyio
async def test_each_tool_does_what_the_page_says(runtime: Runtime) -> None:
    tenant = await people.tenant(runtime)
    member = await people.person(runtime, tenant, ["member"])
    granted, tools = member.principal.permissions, frozenset(tool.name for tool in FEATURE.tools)
    caller = CallerOfRun(
        "run-1", tenant, member.member_id, "library", granted, key_id="", reads_documents=False, tools=tools
    )
    guard = runtime.guard

    async def ask(tool: str, number: int, **arguments: Any) -> Any:
        return await guard.perform(caller, f"call_{number}", tool, arguments, approved=False)

    assert await ask("list_loans", 1) == Performed([])
    for number, (tool, arguments) in enumerate(
        {
            "create_loan": {"title": "Moby Dick"},
            "delete_loan": {"title": "Moby Dick"},
            "notify_branch": {"url": "https://hooks.example.com", "title": "Moby Dick"},
        }.items(),
        2,
    ):
        assert isinstance(await ask(tool, number, **arguments), Parked), tool
    assert isinstance(await ask("list_books", 9), Refused)
