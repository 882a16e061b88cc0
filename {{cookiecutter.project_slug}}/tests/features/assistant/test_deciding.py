"""Deciding about several actions of one run, each on its own, with what would change shown."""

from typing import Any

import pytest

from app.features.assistant import queries
from app.runtime import Runtime
from gates.rig.people import Person
from gates.rig.service import Service


def _two_tickets_to_delete(service: Service, member: Person, approver: Person) -> list[str]:
    for number in range(2):
        run = service.start_run(member, f"Create a ticket: printer {number} is jammed.").json()
        service.run_until(member, run["id"], "waiting")
        assert service.decide(approver, service.pending(approver, run["id"])[0]).status_code == 200
        service.run_until(member, run["id"], "succeeded")
    items = service.call(member, "GET", "/v1/assistant/tickets").json()["items"]
    return [item["id"] for item in items]


def _asks(service: Service, who: Person, approver: Person, ticket: str) -> tuple[str, Any]:
    run = service.start_run(who, f"Delete ticket {ticket}.").json()
    service.run_until(who, run["id"], "waiting")
    return run["id"], service.pending(approver, run["id"])[0]


def test_each_item_is_decided_on_its_own(service: Service) -> None:
    member, approver = service.people(["member", "operator"], ["approver"])
    first, second = _two_tickets_to_delete(service, member, approver)
    runs = [_asks(service, member, approver, ticket) for ticket in (first, second)]
    one, two = (question for _, question in runs)
    assert one["change"]["before"]["title"].startswith("Create a ticket") or one["change"]["before"]["title"]
    assert one["change"]["after"] == {}
    decisions = [
        {"id": one["id"], "digest": one["digest"], "decision": "approve", "reason": "no longer needed"},
        {"id": two["id"], "digest": "0" * 64, "decision": "approve", "reason": "no longer needed"},
    ]
    answer = service.call(approver, "POST", "/v1/approvals/decisions", json={"items": decisions}).json()["items"]
    assert [(item["state"], item["error"]) for item in answer] == [("approved", None), (None, "resource.conflict")]
    service.run_until(member, runs[0][0], "succeeded")
    left = service.call(member, "GET", "/v1/assistant/tickets").json()["items"]
    assert [item["id"] for item in left] == [second]
    of_run = service.call(approver, "GET", f"/v1/approvals?state=pending&run_id={runs[1][0]}").json()["items"]
    assert [item["id"] for item in of_run] == [two["id"]]


def test_what_changed_since_it_was_shown_is_not_done(service: Service) -> None:
    member, approver = service.people(["member", "operator"], ["approver"])
    [ticket, _] = _two_tickets_to_delete(service, member, approver)
    run_id, question = _asks(service, member, approver, ticket)

    async def reworded(runtime: Runtime) -> None:
        async with runtime.db.transaction(member.principal) as session:
            found = await queries.by_id(session, ticket)
            assert found is not None
            found.body = "Now it is about something else."

    service.inside(reworded)
    assert service.decide(approver, question).status_code == 200
    run = service.run_until(member, run_id, "succeeded")
    assert run["state"] == "succeeded"
    assert ticket in {t["id"] for t in service.call(member, "GET", "/v1/assistant/tickets").json()["items"]}
    calls = service.call(member, "GET", f"/v1/runs/{run_id}/tool-calls").json()["items"]
    assert [(call["tool"], call["state"]) for call in calls if call["tool"] == "delete_ticket"] == [
        ("delete_ticket", "denied")
    ]


@pytest.mark.parametrize("wanted", [[], [{"id": "x"}], [{"id": "0" * 36, "decision": "approve"}]])
def test_a_batch_is_checked_like_a_single_decision(service: Service, wanted: list[Any]) -> None:
    [approver] = service.people(["approver"])
    assert service.call(approver, "POST", "/v1/approvals/decisions", json={"items": wanted}).status_code == 422
