"""The second feature through the running service."""

from uuid import uuid4

from gates.rig.service import Service


def test_a_loan_waits_for_an_approver_and_happens_once(service: Service) -> None:
    member, approver = service.people(["member"], ["approver"])
    body = {"feature": "library", "task": "Create a loan for Moby Dick."}
    started = service.call(member, "POST", "/v1/runs", json=body, headers={"Idempotency-Key": uuid4().hex})
    run_id = started.json()["id"]
    service.run_until(member, run_id, "waiting")
    [question] = service.pending(approver, run_id)
    assert question["tool"] == "create_loan"
    assert service.decide(approver, question).status_code == 200
    assert service.run_until(member, run_id, "succeeded")["feature"] == "library"
